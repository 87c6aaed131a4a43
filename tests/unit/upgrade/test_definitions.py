"""The CustomResourceDefinitions of this checkout against the last released ones: whoever upgrades keeps all objects, commands and manifests."""

from typing import Any

import pytest

from taskfleet.api.compatibility import Break, breaks
from tests.cluster.local.instance import REPOSITORY
from tests.released.last import definitions_in, last_release

# Rules that are new since the last release, by definition, place and text, each with the reason why no object that was accepted is refused, or why it must be.
ACCEPTED_RULES: dict[tuple[str, str, str], str] = {
    (
        "taskmodels.taskfleet.dev",
        "spec.rollout.steps[]",
        "self.weightPercent > 0 || self.shadowPercent > 0",
    ): "until now a weight was 1 at least",
    (
        "servingclasses.taskfleet.dev",
        "spec.adapters",
        "!has(self.maxResident) || self.maxActive <= self.maxResident",
    ): "maxResident is a new field",
    (
        "servingclasses.taskfleet.dev",
        "spec.scaling",
        "self.autoscaler == 'Builtin' || self.spareReplicas == 0",
    ): "spareReplicas is a new field, 0 unless set",
    ("taskmodels.taskfleet.dev", "spec.evaluation", "!has(self.judge) || self.metric == 'Judge'"): "judge is a new field",
    (
        "taskmodels.taskfleet.dev",
        "spec.scaling",
        "!has(self.schedules) || !has(self.maxReplicas) || self.schedules.all(one, one.minReplicas <= self.maxReplicas)",
    ): "schedules is a new field",
}

RELEASED = last_release().definitions()
PRESENT = definitions_in(REPOSITORY / "crds")


def key(found: Break) -> tuple[str, str, str]:
    return found.definition, found.place, found.rule


def found(name: str) -> list[Break]:
    return breaks(RELEASED[name], PRESENT[name])


def test_no_definition_is_gone() -> None:
    assert RELEASED.keys() <= PRESENT.keys()


@pytest.mark.parametrize("name", RELEASED)
def test_the_definition_only_grew_since_the_last_release(name: str) -> None:
    unaccepted = [one for one in found(name) if key(one) not in ACCEPTED_RULES]
    assert not unaccepted, (
        f"objects or people of {last_release().version} would be broken; add optional fields instead, or list a rule in ACCEPTED_RULES with its reason:\n"
        + "\n".join(map(str, unaccepted))
    )


def test_what_was_accepted_is_still_there_and_has_a_reason() -> None:
    there = {key(one) for name in RELEASED for one in found(name) if one.rule}
    assert ACCEPTED_RULES.keys() <= there
    assert all(ACCEPTED_RULES.values())


def test_the_comparison_looks_at_the_real_files() -> None:
    """A bound narrowed in a copy of a released definition is found."""
    name = "taskmodels.taskfleet.dev"
    spec = PRESENT[name]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    narrowed: dict[str, Any] = {**spec["properties"], "servingClassName": {**spec["properties"]["servingClassName"], "maxLength": 10}}
    version = PRESENT[name]["spec"]["versions"][0]
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": {**spec, "properties": narrowed}}}}
    changed = {**PRESENT[name], "spec": {**PRESENT[name]["spec"], "versions": [{**version, "schema": schema}]}}
    places = {one.place for one in breaks(RELEASED[name], changed)}
    assert {"spec.servingClassName", "status"} <= places
