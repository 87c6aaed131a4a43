"""What each verb writes, and when it is refused."""

import pytest

from taskfleet import names
from taskfleet.api.taskmodel import Base
from taskfleet.cli.rollout.verbs import Already, Order, Refused, Verb, decide
from taskfleet.cli.rollout.view import View
from taskfleet.planning.rollout.verbs import FULL, Verbs, verbs_for
from tests.unit.cli.views import paused, rejected, stepping, version, view, with_annotation
from tests.unit.planning.builders import NOW

V7, V8 = version(7).metadata.name, version(8).metadata.name


def order(verb: Verb, found: View) -> Order:
    decision = decide(verb, found, now=NOW)
    assert isinstance(decision, Order), decision
    return decision


def serving() -> View:
    return view(
        phase="Done", weights=(0, 100), candidate=version(8, phase="Stable"), status={"stable": {"revision": V8}, "candidate": None}
    )


def immediate() -> View:
    found = view(phase="Proving", weights=(100, 0))
    spec = found.task.spec.model_copy(update={"rollout": None})
    return View(task=found.task.model_copy(update={"spec": spec}), revisions=found.revisions)


def on_another_base_before() -> View:
    """v8 serves, and v7 served before it from another base."""
    base = Base(source="hf://example/other", revision="v1")
    before = version(7, phase="Superseded")
    moved = before.model_copy(update={"spec": before.spec.model_copy(update={"base": base})})
    return View(task=serving().task, revisions=(moved, version(8, phase="Stable")))


@pytest.mark.parametrize(
    ("verb", "annotations"),
    [
        (Verb.PAUSE, {names.ANNOTATION_PAUSE: V8}),
        (Verb.PROMOTE, {names.ANNOTATION_PROMOTE: f"{V8}@2"}),
        (Verb.PROMOTE_FULLY, {names.ANNOTATION_PROMOTE: f"{V8}@full"}),
        (Verb.ABORT, {names.ANNOTATION_ABORT: V8}),
    ],
)
def test_a_verb_names_the_revision_that_is_rolled(verb: Verb, annotations: dict[str, str]) -> None:
    assert order(verb, stepping()).annotations == annotations


def test_undo_names_the_revision_that_serves_and_tells_which_comes_back() -> None:
    undone = order(Verb.UNDO, serving())
    assert undone.annotations == {names.ANNOTATION_UNDO: V8}
    assert "(v7)" in undone.follows


def test_resume_takes_the_pause_away() -> None:
    assert order(Verb.RESUME, paused()).annotations == {names.ANNOTATION_PAUSE: None}


def test_promote_on_the_last_step_gives_all_traffic() -> None:
    assert order(Verb.PROMOTE, stepping(rollout={"step": 2})).annotations == {names.ANNOTATION_PROMOTE: f"{V8}@full"}


def test_promote_tells_the_share_of_the_next_step() -> None:
    assert "step 2 of 2 (50 %, 20 % mirrored)" in order(Verb.PROMOTE, stepping()).done


def test_promote_fully_before_the_gate_tells_that_the_gate_stays() -> None:
    assert "passed its gate" in order(Verb.PROMOTE_FULLY, view(phase="Evaluating", weights=(100, 0))).follows


def test_retry_takes_away_what_would_stop_it_again() -> None:
    found = with_annotation(with_annotation(rejected(), names.ANNOTATION_ABORT, V8), names.ANNOTATION_PAUSE, V7)
    assert order(Verb.RETRY, found).annotations == {names.ANNOTATION_RETRY: f"{V8}@20260101T120000Z", names.ANNOTATION_ABORT: None}


def test_retry_asks_again_for_a_gate_that_could_not_be_measured() -> None:
    found = view(phase="Evaluating", weights=(100, 0), rollout={"hold": "GateUnmeasurable"})
    assert order(Verb.RETRY, found).annotations == {names.ANNOTATION_RETRY: f"{V8}@20260101T120000Z"}


@pytest.mark.parametrize(
    ("verb", "found", "says"),
    [
        (Verb.PROMOTE, serving(), "nothing to promote"),
        (Verb.PROMOTE_FULLY, rejected(), "is Rejected"),
        (Verb.PROMOTE, view(phase="Evaluating", weights=(100, 0)), "nothing skips the gate"),
        (Verb.PROMOTE_FULLY, immediate(), "strategy Immediate"),
        (Verb.PAUSE, serving(), "nothing to pause"),
        (Verb.ABORT, serving(), "undo"),
        (Verb.ABORT, view(phase=None), "no rollout has begun"),
        (Verb.RETRY, stepping(), "was not rejected"),
        (Verb.UNDO, stepping(), "abort it"),
        (Verb.UNDO, rejected(), "is not what the spec asks for"),
        (Verb.UNDO, View(task=serving().task, revisions=(version(8, phase="Stable"),)), "rollbackWindowRevisions"),
        (Verb.UNDO, on_another_base_before(), "has another base (hf://example/other, revision v1)"),
    ],
)
def test_a_verb_without_effect_is_refused(verb: Verb, found: View, says: str) -> None:
    decision = decide(verb, found, now=NOW)
    assert isinstance(decision, Refused)
    assert says in decision.message


def test_what_is_so_already_is_not_written_again() -> None:
    assert isinstance(decide(Verb.PAUSE, paused(), now=NOW), Already)
    assert isinstance(decide(Verb.RESUME, stepping(), now=NOW), Already)


@pytest.mark.parametrize(
    ("verb", "found", "understood"),
    [
        (Verb.PAUSE, stepping(), Verbs(paused=True)),
        (Verb.PROMOTE, stepping(), Verbs(promote_to=2)),
        (Verb.PROMOTE_FULLY, stepping(), Verbs(promote_to=FULL)),
        (Verb.ABORT, stepping(), Verbs(aborted=True)),
        (Verb.RETRY, rejected(), Verbs(retry=f"{V8}@20260101T120000Z")),
        (Verb.UNDO, serving(), Verbs(undone=True)),
    ],
)
def test_the_operator_understands_what_is_written(verb: Verb, found: View, understood: Verbs) -> None:
    for annotation, value in order(verb, found).annotations.items():
        assert value is not None
        found = with_annotation(found, annotation, value)
    assert verbs_for(found.task, V8) == understood
    assert verbs_for(found.task, V7) == Verbs()
