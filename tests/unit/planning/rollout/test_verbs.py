"""What annotations ask of a revision, and of which."""

import pytest

from taskfleet.planning.rollout.verbs import FULL, Verbs, verbs_for
from tests.unit.planning.builders import task_model

REVISION = "total-0123456789"


def asked(**annotations: str) -> Verbs:
    task = task_model()
    named = {f"taskfleet.dev/{verb}": value for verb, value in annotations.items()}
    return verbs_for(task.model_copy(update={"metadata": task.metadata.model_copy(update={"annotations": named})}), REVISION)


@pytest.mark.parametrize("named", [REVISION, "0123456789"], ids=["by its name", "by its hash"])
def test_each_verb_is_for_the_revision_that_it_names(named: str) -> None:
    assert asked(pause=named) == Verbs(paused=True)
    assert asked(abort=named) == Verbs(aborted=True)
    assert asked(undo=named) == Verbs(undone=True)
    assert asked(promote=f"{named}@3") == Verbs(promote_to=3)
    assert asked(promote=f"{named}@full") == Verbs(promote_to=FULL)
    assert asked(retry=f"{named}@monday") == Verbs(retry=f"{named}@monday")


@pytest.mark.parametrize("value", ["", "total-9876543210", "total-9876543210@full", "@full", "total", "yes"])
def test_what_names_another_revision_asks_nothing_of_this_one(value: str) -> None:
    assert asked(pause=value, abort=value, undo=value, promote=value, retry=value) == Verbs()


@pytest.mark.parametrize("rest", ["", "@", "@0", "@-1", "@2.5", "@all", "@٣", "@99999999999999999999"])
def test_promotion_to_something_that_is_no_step_is_told(rest: str) -> None:
    found = asked(promote=f"{REVISION}{rest}")
    assert found.promote_to in {0, 9999}
    assert (found.mistake is None) == (found.promote_to == 9999)
