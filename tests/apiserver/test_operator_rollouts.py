"""Rollouts that are disturbed in the middle: suspended, deleted, edited, killed, robbed of their status. Weight grows by a verdict, one step at a time, and only so."""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from tests.apiserver.conftest import ApiServer
from tests.apiserver.history import History, traffic
from tests.apiserver.objects import put
from tests.apiserver.rollout_stage import SHARES, TASK, Cuts, Stage, rollout_stage
from tests.cluster.api import JOB, POOL, REVISION, TASK_MODEL, Api, condition, eventually
from tests.cluster.oracles import SOAK, no_orphan, still
from tests.cluster.states import same_state, state

AGENTS = [f"127.77.212.{number}" for number in range(1, 100)]
# Of the writes of a rollout, with TASKFLEET_SOAK=1 each.
EVERY = 1 if SOAK else 5


@pytest.fixture(scope="module")
def whole_stage(api_server: ApiServer, new_namespace: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with rollout_stage(api_server, new_namespace, folder=tmp_path_factory.mktemp("operator"), agents=AGENTS) as found:
        yield found


@pytest.fixture
def stage(whole_stage: Stage) -> Stage:
    whole_stage.gateway.users_ask = True
    whole_stage.gateway.failing.clear()
    whole_stage.proxy.lose_request = None
    return whole_stage


def step_by_step(shares: Sequence[dict[str, int]], candidate: str) -> None:
    """The candidate's share grows from one step to the next, and may be taken away at any time."""
    for before, after in itertools.pairwise(one.get(candidate, 0) for one in shares):
        allowed = {*range(before + 1), *SHARES[SHARES.index(before) + 1 : SHARES.index(before) + 2]}
        assert after in allowed, f"from {before} % to {after} %: {shares}"


def test_suspended_rollout_stays_where_it_is(stage: Stage) -> None:
    """R-39: not even what fails is taken back, until it is resumed."""
    namespace = stage.home("suspended")
    stage.at_first_step(namespace)
    stable, candidate = (stage.revision(namespace, version) for version in ("v1", "v2"))
    stage.apply(namespace, "v2", put("spec.suspend", True))
    stage.operator.brings(lambda: (condition(stage.task(namespace), "Ready") or {})["reason"] == "Suspended", what="it is suspended")
    stage.gateway.failing.add(candidate)
    stage.gateway.users_ask = True
    eventually(lambda: stage.gateway.errors(candidate) > 200, what="the candidate fails")
    still(stage.api, namespace)
    assert traffic(stage.task(namespace)) == {stable: 90, candidate: 10}
    stage.apply(namespace, "v2")
    stage.comes(namespace, "v2", "Rejected")
    assert traffic(stage.task(namespace)) == {stable: 100}


def test_task_that_is_deleted_in_mid_canary_leaves_nothing(stage: Stage) -> None:
    """V-13."""
    namespace = stage.home("deleted")
    stage.at_first_step(namespace)
    assert stage.api.list(JOB, namespace)
    stage.api.delete(TASK_MODEL, TASK, namespace)
    no_orphan(stage.api, namespace, others={})
    eventually(lambda: not stage.api.list(JOB, namespace), what="its Job is gone")
    assert stage.operator.metric("taskfleet_reconcile_seconds_count", result="error") == 0


def test_of_fifty_edits_in_mid_canary_the_last_one_counts(stage: Stage) -> None:
    """R-10."""
    api, namespace = stage.api, stage.home("edited")
    stage.at_first_step(namespace)
    for number in range(3, 53):
        stage.apply(namespace, f"v{number}")
    stage.gateway.users_ask = True
    stage.comes(namespace, "v52", "Done")
    last = stage.revision(namespace, "v52")
    assert traffic(stage.task(namespace)) == {last: 100}

    def only_what_is_needed() -> bool:
        (pool,) = api.list(POOL, namespace)
        assert [member["revision"] for member in pool["spec"]["members"]] == [last]
        kept = {one["metadata"]["name"]: one["status"]["phase"] for one in api.list(REVISION, namespace)}
        assert set(kept.values()) == {"Stable", "Superseded"}, kept
        left = {one["metadata"]["labels"]["taskfleet.dev/evaluation"] for one in api.list(JOB, namespace)}
        assert left <= kept.keys(), left
        return True

    stage.operator.brings(only_what_is_needed, what="nothing is left of the others")
    assert stage.operator.metric("taskfleet_reconcile_seconds_count", result="error") == 0


def test_rollout_whose_status_is_lost_begins_anew(stage: Stage) -> None:
    """R-40: the task's alone, or everybody's."""
    api, robbed, bare = stage.api, stage.home("robbed"), stage.home("bare")
    stage.at_first_step(robbed, bare)
    stage.operator.kill()
    histories = {namespace: History.begin(api, namespace) for namespace in (robbed, bare)}
    wipe(api, robbed, TASK_MODEL)
    wipe(api, bare, TASK_MODEL, REVISION, POOL)
    stage.gateway.users_ask = True
    stage.run()
    for namespace in (robbed, bare):
        stage.comes(namespace, "v2", "Done")
    stable, candidate = (stage.revision(robbed, version) for version in ("v1", "v2"))
    shares = [one for one in histories[robbed].shares(TASK) if one]
    assert shares[0].get(stable, 0) >= 100 - SHARES[1], "what serves goes on"
    step_by_step(shares, candidate)
    assert len(stage.nodes.asked[f"{robbed}/{TASK}"]) == 1, "what was measured counts"
    # Nobody knows any more what has served, so there is nothing to compare with; but nothing serves without having passed.
    candidate = stage.revision(bare, "v2")
    assert stage.nodes.asked[f"{bare}/{TASK}"][1].compared == (candidate, None)
    assert [one for one in histories[bare].shares(TASK) if one] == [{candidate: 100}]


def wipe(api: Api, namespace: str, *kinds: Any) -> None:
    for kind in kinds:
        for one in api.list(kind, namespace):
            api.patch(kind, one["metadata"]["name"], namespace, change={"status": None}, subresource="status")


def test_operator_that_is_killed_at_any_of_its_writes_ends_as_one_that_is_not(stage: Stage) -> None:
    """V-06, R-12: one task for each write of a rollout; for each of them the operator dies right after it, and before the next one."""
    api, whole = stage.api, stage.home("whole")
    stage.served(whole)
    count = Cuts({whole: 1_000})
    stage.proxy.lose_request = count
    stage.apply(whole, "v2")
    stage.comes(whole, "v2", "Done")
    still(api, whole)
    expected = comparable(api, whole)

    cut = {stage.home("cut"): number for number in range(0, count.done[whole], EVERY)}
    stage.served(*cut)
    still(api, *cut, seconds=1)
    histories = {namespace: History.begin(api, namespace) for namespace in cut}
    cuts = Cuts(cut)
    stage.proxy.lose_request = cuts
    for namespace in cut:
        stage.apply(namespace, "v2")

    def all_stopped() -> bool:
        on_the_way = [namespace for namespace in cut if namespace not in cuts.reached and not stage.is_at(namespace, "v2", "Done")]
        return not on_the_way

    stage.operator.brings(all_stopped, what="each task is cut, or through", within=120)
    stage.operator.kill()
    assert len(cuts.reached) > 0.8 * len(cut)

    # The next one has heard nothing of the step that it finds: no weight grows on what was counted before.
    stage.gateway.users_ask = False
    stage.proxy.lose_request = None
    found = {namespace: share_that_was_earned(stage, namespace) for namespace in cut}
    stage.run()
    for namespace, share in found.items():
        stage.operator.brings(
            partial(has_share, stage, namespace, share), what=f"killed after write {cut[namespace]}, it has what was earned"
        )
    still(api, *cut)
    assert all(has_share(stage, namespace, share) for namespace, share in found.items()), "and no more"

    stage.gateway.users_ask = True
    for namespace, number in cut.items():
        stage.comes(namespace, "v2", "Done")
        stage.operator.brings(partial(is_like, api, namespace, expected), what=f"killed after write {number}, it ends as without")
        step_by_step(histories[namespace].shares(TASK), stage.revision(namespace, "v2"))
        assert len(stage.nodes.asked[f"{namespace}/{TASK}"]) == 1, f"measured again after write {number}"


def is_like(api: Api, namespace: str, expected: dict[str, Any]) -> bool:
    """Raises AssertionError with the differences."""
    same_state(expected, comparable(api, namespace), what=namespace)
    return True


def has_share(stage: Stage, namespace: str, share: int) -> bool:
    """Of v2, which may not have been made yet."""
    made = [one["metadata"]["name"] for one in stage.api.list(REVISION, namespace) if one["spec"]["adapter"]["version"] == "v2"]
    return bool(made) and traffic(stage.task(namespace)).get(made[0]) == share


def share_that_was_earned(stage: Stage, namespace: str) -> int:
    """Percent of the candidate by what is written: all of it once it was promoted, the first step once it was measured."""
    revisions = {one["spec"]["adapter"]["version"]: one for one in stage.api.list(REVISION, namespace)}
    if "v2" not in revisions:
        return SHARES[1]
    name, status = revisions["v2"]["metadata"]["name"], revisions["v2"].get("status", {})
    promoted = status.get("verdict", {}).get("outcome") == "Promoted"
    return SHARES[-1] if promoted else traffic(stage.task(namespace)).get(name) or SHARES[1]


def comparable(api: Api, namespace: str) -> dict[str, Any]:
    """What serves in a namespace, without the names that are its own."""
    (pool,) = (one["metadata"]["name"] for one in api.list(POOL, namespace))
    text = json.dumps(state(api, namespace)).replace(namespace, "<namespace>").replace(pool, "<pool>")
    found: dict[str, Any] = json.loads(text)
    return found
