"""Huge input: each text is bounded, and what is too long, too many or too much is refused with the field's name. R-37."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskfleet.api.crd import DEFINITIONS, Schema, root_schema
from tests.apiserver.conftest import ApiServer
from tests.apiserver.objects import Change, changed, pool, put, revision, serving_class, task_model
from tests.cluster.api import ApiError, Object

LONG = "a" * 10_000


@pytest.fixture(scope="module")
def namespace(new_namespace: Callable[[str], str]) -> str:
    return new_namespace("huge")


HUGE: dict[str, tuple[Callable[[str], Object], str]] = {
    "annotation": (lambda namespace: changed(task_model(namespace), put("metadata.annotations", {"a": "a" * 1_400_000})), "annotations: Too long"),
    "prompt": (lambda namespace: changed(task_model(namespace), put("spec.task", {"systemPrompt": "a" * 1_400_000})), "systemPrompt: Too long"),
    "schema": (lambda namespace: changed(task_model(namespace), put("spec.task", {"outputSchema": "[" * 1_000_000})), "outputSchema: Too long"),
    "stops": (lambda namespace: changed(task_model(namespace), put("spec.task.defaults.stop", ["a"] * 350_000)), "stop: Too many"),
    "request": (lambda namespace: changed(task_model(namespace), put("spec.task", {"description": "a" * 4_000_000})), "Request entity too large"),
}  # fmt: skip


@pytest.mark.parametrize("case", HUGE)
def test_huge_objects_are_refused_with_words(api_server: ApiServer, namespace: str, case: str) -> None:
    make, says = HUGE[case]
    with pytest.raises(ApiError) as refusal:
        api_server.api.apply(make(namespace), dry_run=True)
    assert says in refusal.value.message
    assert 400 <= refusal.value.status < 500


@pytest.mark.parametrize("kind", [definition.kind for definition in DEFINITIONS])
def test_every_text_has_a_bound_that_is_told(api_server: ApiServer, namespace: str, kind: str) -> None:
    """10,000 characters in one field after the other; those that may be longer are refused at a million."""
    body = {"TaskModel": task_model, "TaskModelRevision": revision, "ModelPool": pool}.get(kind, lambda _: serving_class())(namespace)
    definition = next(one for one in DEFINITIONS if one.kind == kind)
    paths = list(texts(root_schema(definition)["properties"]["spec"], "spec"))
    assert len(paths) > 5
    for path, most in paths:
        text = LONG if most < len(LONG) else "a" * 1_000_000
        with pytest.raises(ApiError) as refusal:
            api_server.api.create(changed(body, at(path, text)))
        shown = re.sub(r"\[\]", "[0]", path)
        assert re.search(rf"{re.escape(shown)}: (Too long|Unsupported value|Invalid value)", refusal.value.message), path
        assert len(refusal.value.message) < 50_000, "the value is not repeated without end"


def texts(schema: Schema, path: str) -> Iterator[tuple[str, int]]:
    """Each field of text and its bound; `[]` stands for an item of a list. What maps hold has no name to be refused by."""
    if schema.get("type") == "string":
        yield path, schema.get("maxLength", 0)
    for name, inner in schema.get("properties", {}).items():
        yield from texts(inner, f"{path}.{name}")
    if "items" in schema:
        yield from texts(schema["items"], f"{path}[]")


def at(path: str, value: str) -> Change:
    """Sets the text at a path, in the first item of each list on the way, made where it is missing."""

    def change(body: Object) -> None:
        *folders, last = path.replace("[]", ".[]").split(".")
        place: Any = body
        for folder, following in zip(folders, [*folders[1:], last], strict=True):
            place = _step(place, folder, [] if following == "[]" else {})
        _step(place, last, value, replace=True)

    return change


def _step(place: Any, name: str, missing: Any, *, replace: bool = False) -> Any:
    if name != "[]":
        if replace or name not in place:
            place[name] = missing
        return place[name]
    if replace or not place:
        place[:] = [missing]
    return place[0]
