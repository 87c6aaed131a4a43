"""The conversion of models to structural schemas, and what was generated from the present ones."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import ConfigDict, Field

from taskfleet.api import generate, remedies
from taskfleet.api.conditions import Reason
from taskfleet.api.crd import DEFINITIONS, Definition, Schema, custom_resource_definition, root_schema
from taskfleet.api.fields import Labels, Model, PodApiObject, Quantity, rules
from taskfleet.api.generate import REPOSITORY, differences, generated_files, write
from taskfleet.api.troubleshooting import PAGE


class Colour(StrEnum):
    RED = "Red"
    BLUE = "Blue"


class Inner(Model):
    """An inner object."""

    model_config = ConfigDict(json_schema_extra=rules(("self.size > 1", "size must be more than 1")))

    size: Annotated[int, Field(ge=1, le=5, description="Size.")] = 3
    note: Annotated[str, Field(max_length=9, description="Note.")] = ""


class Outer(Model):
    """What is wanted."""

    colour: Annotated[Colour, Field(description="Colour.")]
    inner: Annotated[Inner, Field(description="Inner by default.")] = Inner()
    maybe: Annotated[Inner | None, Field(description="Inner or nothing.")] = None
    names: Annotated[list[Annotated[str, Field(max_length=4)]], Field(max_length=2, description="Names.")] = Field(default_factory=list)
    labels: Annotated[Labels, Field(description="Labels.")] = Field(default_factory=dict)
    memory: Annotated[Quantity, Field(description="Memory.")] = "1Gi"
    anything: Annotated[PodApiObject | None, Field(description="Passed through.")] = None
    ratio: Annotated[float, Field(gt=0, le=1, description="Ratio.")] = 1.0
    large: Annotated[int, Field(ge=0, le=2**40, description="Large.")] = 0


class OuterStatus(Model):
    """What was seen."""

    seen: Annotated[int, Field(ge=0, le=10, description="Seen.")] = 7


class Thing(Model):
    """A thing."""

    metadata: Annotated[dict[str, str], Field(max_length=1)] = Field(default_factory=dict)
    spec: Outer
    status: OuterStatus = OuterStatus()


THING = root_schema(Definition(model=Thing, plural="things", short_name="th", scope="Namespaced", columns=(), rules=(("true", "fine"),)))
SPEC = THING["properties"]["spec"]["properties"]


def test_required_are_the_fields_without_default() -> None:
    assert THING["required"] == ["spec"]
    assert THING["properties"]["spec"]["required"] == ["colour"]


def test_enums_and_references_are_written_out() -> None:
    assert SPEC["colour"] == {"description": "Colour.", "type": "string", "enum": ["Red", "Blue"]}
    assert SPEC["maybe"]["properties"]["size"]["maximum"] == 5


def test_null_is_left_out() -> None:
    assert SPEC["maybe"]["type"] == "object"
    assert "anyOf" not in SPEC["maybe"]
    assert "default" not in SPEC["maybe"]


def test_rules_stay_with_their_object() -> None:
    assert SPEC["maybe"]["x-kubernetes-validations"] == [{"rule": "self.size > 1", "message": "size must be more than 1"}]
    assert THING["x-kubernetes-validations"] == [{"rule": "true", "message": "fine"}]


def test_defaults_that_say_nothing_are_left_out() -> None:
    assert SPEC["inner"]["default"] == {"size": 3}
    assert "default" not in SPEC["inner"]["properties"]["note"]
    assert "default" not in SPEC["names"]
    assert "default" not in SPEC["labels"]


def test_whole_numbers_stay_whole() -> None:
    assert SPEC["ratio"]["default"] == 1
    assert isinstance(SPEC["ratio"]["default"], int)


def test_status_has_no_defaults() -> None:
    assert THING["properties"]["status"]["properties"]["seen"] == {
        "description": "Seen.",
        "type": "integer",
        "minimum": 0,
        "maximum": 10,
        "format": "int32",
    }


def test_quantities_are_numbers_or_text() -> None:
    memory = SPEC["memory"]
    assert "type" not in memory
    assert memory["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert memory["x-kubernetes-int-or-string"] is True
    assert memory["pattern"].startswith("^")
    assert memory["default"] == "1Gi"


def test_excluded_minimum_is_written_as_openapi_3_does() -> None:
    assert (SPEC["ratio"]["minimum"], SPEC["ratio"]["exclusiveMinimum"], SPEC["ratio"]["maximum"]) == (0, True, 1)


def test_integers_say_how_long_they_are() -> None:
    assert SPEC["large"]["format"] == "int64"
    assert SPEC["inner"]["properties"]["size"]["format"] == "int32"


def test_keys_of_maps_are_checked_by_a_rule() -> None:
    labels = SPEC["labels"]
    assert "patternProperties" not in labels
    assert labels["additionalProperties"]["maxLength"] == 63
    assert "size(key) <= 317" in labels["x-kubernetes-validations"][0]["rule"]


def test_parts_of_the_pod_api_keep_unknown_fields() -> None:
    assert SPEC["anything"]["x-kubernetes-preserve-unknown-fields"] is True
    assert "additionalProperties" not in SPEC["anything"]


def test_lists_say_how_they_are_merged() -> None:
    assert SPEC["names"]["x-kubernetes-list-type"] == "atomic"


def test_a_map_with_unbounded_keys_is_an_error() -> None:
    class Loose(Thing):
        """Loose."""

        spec: Annotated[dict[str, str], Field(max_length=3)]  # type: ignore[assignment]

    with pytest.raises(ValueError, match="keys of one bounded type"):
        root_schema(Definition(model=Loose, plural="l", short_name="l", scope="Namespaced", columns=()))


def nodes(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


def present() -> list[tuple[str, Schema]]:
    found = []
    for definition in DEFINITIONS:
        for part in ("spec", "status"):
            found += list(nodes(root_schema(definition)["properties"][part], f"{definition.kind}.{part}"))
    return found


def test_every_text_list_and_map_is_bounded() -> None:
    for path, schema in present():
        kind = schema.get("type")
        if kind == "string" and "enum" not in schema:
            assert "maxLength" in schema, path
        if kind == "array":
            assert "maxItems" in schema, path
        if kind == "object" and "properties" not in schema:
            assert "maxProperties" in schema, path
        if kind in {"integer", "number"}:
            assert "minimum" in schema, path
            assert "maximum" in schema or ".status." in path, path


def test_every_field_is_described() -> None:
    for path, schema in present():
        if not path.endswith("[]"):
            assert schema.get("description"), path


def test_no_keyword_that_a_structural_schema_forbids() -> None:
    for path, schema in present():
        assert not schema.keys() & {"$ref", "$defs", "title", "const", "patternProperties", "propertyNames", "oneOf", "allOf"}, path


def test_short_names_are_not_those_of_kubernetes() -> None:
    taken = {"sc", "po", "svc", "cm", "deploy", "rs", "ns", "pv", "pvc", "sa", "ing", "ep", "hpa", "pdb", "crd", "pc", "netpol"}
    assert not {definition.short_name for definition in DEFINITIONS} & taken


def test_generated_files_are_up_to_date() -> None:
    assert not differences(REPOSITORY), "run `make generate`"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what is written by hand of a page that is generated in part."""
    page = tmp_path / PAGE
    page.parent.mkdir()
    page.write_text("# Written\n<!-- reasons: -->\n<!-- end of reasons -->\nby hand\n<!-- metrics: -->\n<!-- end of metrics -->\n")
    return tmp_path


def test_what_is_written_by_hand_stays_around_the_tables(checkout: Path) -> None:
    write(checkout)
    text = (checkout / PAGE).read_text()
    assert text.startswith("# Written\n<!-- reasons: generated")
    assert "<!-- end of reasons -->\nby hand\n<!-- metrics: generated" in text
    assert text.index("| `Serving` |") < text.index("by hand") < text.index("`taskfleet_leader`")


def test_drift_is_shown_and_repaired(checkout: Path) -> None:
    write(checkout)
    assert not differences(checkout)
    file = checkout / "crds" / "taskfleet.dev_taskmodels.yaml"
    file.write_text(file.read_text().replace("maxLength: 512", "maxLength: 99999"))
    assert "99999" in differences(checkout)
    page = checkout / PAGE
    page.write_text(page.read_text().replace("| `Serving` | answers", "| `Serving` | serves"))
    assert "serves" in differences(checkout)


def test_the_chart_carries_the_same_definitions() -> None:
    files = generated_files(REPOSITORY)
    for definition in DEFINITIONS:
        name = f"{custom_resource_definition(definition)['metadata']['name'].partition('.')[2]}_{definition.plural}.yaml"
        assert files[f"crds/{name}"] == files[f"charts/taskfleet/files/crds/{name}"]


def test_the_check_tells_by_its_exit_status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    monkeypatch.setattr(generate, "REPOSITORY", checkout)
    assert generate.main(["--check"]) == 1
    assert "maxLength" in capsys.readouterr().out
    assert [path.name for path in checkout.iterdir()] == ["docs"]
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_a_text_that_is_missing_is_asked_for(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    monkeypatch.setattr(generate, "REPOSITORY", checkout)
    monkeypatch.delitem(remedies.OF_REASONS, Reason.SERVING)
    assert generate.main([]) == 1
    assert "the reason Serving has no text in OF_REASONS of operator/taskfleet/api/remedies.py" in capsys.readouterr().err
