"""Each rule and each important bound of the objects, with an object that breaks exactly that one."""

import re
from collections.abc import Callable

import pytest

from taskfleet.api.crd import DEFINITIONS, VALIDATIONS, Schema, root_schema
from tests.apiserver.conftest import ApiServer
from tests.apiserver.objects import DIGEST, changed, drop, pool, put, revision, serving_class, task_model
from tests.apiserver.refusals import MODEL_POOL, POOL_CHANGES, REVISION, REVISION_CHANGES, SERVING_CLASS, TASK_MODEL, Refusal
from tests.cluster import api
from tests.cluster.api import ApiError, Object

# Immutability and the rules of status, which are broken by changes only.
BROKEN_BY_CHANGES = {
    "base is immutable",
    "servingClassName is immutable",
    "isolation is immutable",
    "baseDigest is set once",
    "spec is immutable; another version is another TaskModelRevision",
    "digest is recorded once",
    "ociBases is immutable; make another class",
}


# A cause as the API server writes it: the field, then what kind of trouble.
CAUSE = re.compile(r"(\S+): (?:Invalid value|Required value|Unsupported value|Duplicate value|Too long|Too many)")


def refused(api_server: ApiServer, body: Object) -> str:
    with pytest.raises(ApiError) as refusal:
        api_server.api.apply(body, dry_run=True)
    return refusal.value.message


def assert_only(message: str, says: str) -> None:
    assert says in message
    # `<nil>` says only that rules wait for a valid schema.
    fields = {found.removeprefix("[") for found in CAUSE.findall(message)} - {"<nil>"}
    assert len(fields) <= 1, message


@pytest.fixture(scope="module")
def namespace(new_namespace: Callable[[str], str]) -> str:
    return new_namespace("refusals")


@pytest.mark.parametrize("body", ["task model", "revision", "pool", "class"])
def test_the_unchanged_object_is_accepted(api_server: ApiServer, namespace: str, body: str) -> None:
    valid = {"task model": task_model(namespace), "revision": revision(namespace), "pool": pool(namespace), "class": serving_class()}
    api_server.api.apply(valid[body], dry_run=True)


@pytest.mark.parametrize("refusal", TASK_MODEL)
def test_task_model_is_refused_for(api_server: ApiServer, namespace: str, refusal: Refusal) -> None:
    assert_only(refused(api_server, changed(task_model(namespace), refusal.change)), refusal.says)


@pytest.mark.parametrize("refusal", SERVING_CLASS)
def test_serving_class_is_refused_for(api_server: ApiServer, refusal: Refusal) -> None:
    assert_only(refused(api_server, changed(serving_class(), refusal.change)), refusal.says)


@pytest.mark.parametrize("refusal", MODEL_POOL)
def test_model_pool_is_refused_for(api_server: ApiServer, namespace: str, refusal: Refusal) -> None:
    assert_only(refused(api_server, changed(pool(namespace), refusal.change)), refusal.says)


@pytest.mark.parametrize("refusal", REVISION)
def test_revision_is_refused_for(api_server: ApiServer, namespace: str, refusal: Refusal) -> None:
    assert_only(refused(api_server, changed(revision(namespace), refusal.change)), refusal.says)


@pytest.fixture(scope="module")
def present_pool(api_server: ApiServer, namespace: str) -> Object:
    body = changed(pool(namespace, "present"), put("spec.baseDigest", DIGEST))
    api_server.api.apply(body)
    return body


@pytest.mark.parametrize("refusal", POOL_CHANGES)
def test_model_pool_keeps_its(api_server: ApiServer, present_pool: Object, refusal: Refusal) -> None:
    assert_only(refused(api_server, changed(present_pool, refusal.change)), refusal.says)


def test_model_pool_takes_its_digest_and_members_later(api_server: ApiServer, namespace: str) -> None:
    body = pool(namespace, "later")
    api_server.api.apply(body)
    api_server.api.apply(changed(body, put("spec.baseDigest", DIGEST), put("spec.members", []), put("spec.replicas", 0)))


@pytest.fixture(scope="module")
def present_revision(api_server: ApiServer, namespace: str) -> Object:
    body = revision(namespace, "present")
    api_server.api.apply(body)
    return body


@pytest.mark.parametrize("refusal", REVISION_CHANGES)
def test_revision_never_changes_its(api_server: ApiServer, present_revision: Object, refusal: Refusal) -> None:
    assert_only(refused(api_server, changed(present_revision, refusal.change)), refusal.says)


def test_class_keeps_the_way_in_which_bases_come(api_server: ApiServer) -> None:
    """Both ways have digests of their own kind, and pools have recorded them."""
    api_server.api.apply(serving_class("keeps"))
    api_server.api.apply(changed(serving_class("keeps"), put("spec.store", {"ociBases": "Download", "maxBaseSize": "1Gi"})))
    mounted = changed(serving_class("keeps"), put("spec.store", {"ociBases": "ImageVolume"}))
    assert_only(refused(api_server, mounted), "ociBases is immutable; make another class")
    api_server.api.delete(api.SERVING_CLASS, "keeps")
    api_server.api.apply(mounted, dry_run=True)


def test_revision_records_its_digest_once(api_server: ApiServer, present_revision: Object) -> None:
    status = {key: present_revision[key] for key in ("apiVersion", "kind", "metadata")} | {"status": {"phase": "Stable", "digest": DIGEST}}
    api_server.api.apply(status, subresource="status")
    for change in (put("status.digest", "sha256:" + "b" * 64), drop("status.digest")):
        with pytest.raises(ApiError) as refusal:
            api_server.api.apply(changed(status, change), subresource="status", dry_run=True)
        assert_only(refusal.value.message, "digest is recorded once")


def test_every_rule_has_an_object_that_breaks_it() -> None:
    shown = {
        param.values[0].says  # type: ignore[attr-defined]
        for cases in (TASK_MODEL, SERVING_CLASS, MODEL_POOL, REVISION)
        for param in cases
    } | BROKEN_BY_CHANGES
    for definition in DEFINITIONS:
        for message in messages(root_schema(definition)):
            assert [one for one in shown if one in message], f"no test breaks the rule of {definition.kind}: {message}"


def messages(schema: Schema) -> set[str]:
    """The messages of all rules of a schema."""
    found = {rule["message"] for rule in schema.get(VALIDATIONS, [])}
    parts = [*schema.get("properties", {}).values(), *(schema[key] for key in ("items", "additionalProperties") if key in schema)]
    return found.union(*(messages(part) for part in parts))
