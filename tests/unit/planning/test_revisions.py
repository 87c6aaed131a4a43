"""Names of revisions, and which are kept."""

from typing import Any

import pytest

from taskfleet.planning import revisions
from taskfleet.planning.revisions import Phase
from tests.unit.planning.builders import BASE, revision_of, task_model


def test_same_spec_is_the_same_revision() -> None:
    assert revisions.target_name(task_model()) == revisions.target_name(task_model())


def test_name_is_that_of_the_task_and_ten_digits() -> None:
    name = revisions.target_name(task_model("total"))
    assert name.startswith("total-")
    assert len(name) == len("total-") + 10


def test_names_are_those_of_the_first_release() -> None:
    # A name that moves with a release rolls every task of every user.
    assert revisions.target_name(task_model("total")) == "total-db19a51df9"


@pytest.mark.parametrize(
    "change",
    [
        {"version": "v2"},
        {"base": {**BASE, "revision": "v2"}},
        {"base": {**BASE, "credentialsKey": "registry"}},
        {"task": {"systemPrompt": "Answer in one word."}},
        {"task": {"outputSchema": "{}"}},
        {"task": {"defaults": {"maxTokens": 8}}},
        {"task": {"defaults": {"stop": ["a", "b"]}}},
        {"task": {"allowOverrides": []}},
    ],
)
def test_whatever_shapes_an_answer_makes_another_revision(change: dict[str, Any]) -> None:
    assert revisions.target_name(task_model(**change)) != revisions.target_name(task_model())


@pytest.mark.parametrize(
    "change",
    [
        {"scaling": {"minReplicas": 3}},
        {"isolation": "Dedicated"},
        {"servingClassName": "h100"},
        {"suspend": True},
        {"rollout": {"strategy": "Immediate"}},
        # A default that is written out.
        {"task": {"allowOverrides": ["Seed", "Stop", "TopK", "TopP", "Temperature", "MaxTokens"], "defaults": {}}},
    ],
)
def test_whatever_does_not_shape_an_answer_makes_none(change: dict[str, Any]) -> None:
    assert revisions.target_name(task_model(**change)) == revisions.target_name(task_model())


def test_overrides_stand_in_one_order_in_the_record() -> None:
    """A record can't be written again in another order."""
    turned, straight = (task_model(task={"allowOverrides": names}) for names in (["Seed", "Stop"], ["Stop", "Seed"]))
    assert revisions.spec_of(turned) == revisions.spec_of(straight)


def test_order_of_overrides_does_not_count() -> None:
    names = {revisions.target_name(task_model(task={"allowOverrides": order})) for order in (["Seed", "Stop"], ["Stop", "Seed"])}
    assert len(names) == 1


def test_newest_superseded_revisions_are_kept_within_the_window() -> None:
    task = task_model(rollout={"rollbackWindowRevisions": 2})
    old = [
        revision_of(task_model(version=f"v{number}"), phase=Phase.SUPERSEDED, created=f"2026-01-0{number}T00:00:00Z")
        for number in range(1, 5)
    ]
    assert revisions.unneeded(task, old, needed=frozenset()) == tuple(sorted(revision.metadata.name for revision in old[:2]))


def test_never_promoted_revisions_go_at_once_unless_needed() -> None:
    failed, pending, needed = (
        revision_of(task_model(version=version), phase=phase)
        for version, phase in (("v1", Phase.FAILED), ("v2", Phase.PENDING), ("v3", None))
    )
    deleted = revisions.unneeded(task_model(), [failed, pending, needed], needed=frozenset({needed.metadata.name}))
    assert set(deleted) == {failed.metadata.name, pending.metadata.name}
