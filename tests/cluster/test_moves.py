"""A task that moves to another pool goes on answering all the way: the new pool serves before the old one goes."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.api import POD, POOL, condition, eventually, is_true
from tests.cluster.fleet import Fleet, Tenant
from tests.cluster.load import constant_load
from tests.cluster.oracles import identities, minimal, ready, said
from tests.cluster.story import tell

OTHER_CLASS = "another-class"


@pytest.fixture(scope="module")
def mover(fleet: Fleet) -> Iterator[Tenant]:
    fleet.serving_class(OTHER_CLASS)
    with fleet.tenant("mover") as tenant:
        tenant.apply("moves", fleet.artifact("moves"))
        tenant.apply("stays", fleet.artifact("stays-behind"))
        ready(fleet.api, tenant.namespace)
        yield tenant
    fleet.remove_class(OTHER_CLASS)


@pytest.mark.parametrize(
    "wish",
    [{"isolation": "Dedicated"}, {"servingClassName": OTHER_CLASS}, {"base": {"revision": "v2"}}, {}],
    ids=["a pool of its own", "another class", "another base", "and back"],
)
def test_task_moves_without_an_error_and_its_old_pool_goes(fleet: Fleet, mover: Tenant, wish: dict[str, Any]) -> None:
    artifact, neighbour = fleet.artifact("moves"), fleet.artifact("stays-behind")
    fleet.tag_base("v2")
    before = mover.get("moves")["status"]["traffic"][0]["pool"]
    with constant_load(fleet.gateway_url, [mover.target("moves", artifact), mover.target("stays", neighbour)], rate=20) as load:
        load.wait_for(10)
        fleet.api.apply(mover.task("moves", artifact, **wish))

        def moved() -> bool:
            pools = [target["pool"] for target in mover.get("moves")["status"]["traffic"]]
            members = {
                pool["metadata"]["name"]: [member["taskModel"] for member in pool["spec"]["members"]]
                for pool in fleet.api.list(POOL, mover.namespace)
            }
            assert pools != [before], "the traffic is where it was"
            assert [name for name, tasks in members.items() if "moves" in tasks] == pools, members
            assert all(members.values()), f"a pool without members is left: {members}"
            return True

        eventually(moved, what="the task is on its new pool alone", within=120, describe=lambda: tell(fleet.api, mover.namespace))
        ready(fleet.api, mover.namespace)
        load.wait_for(20)
    load.assert_no_error()
    pools = len(fleet.api.list(POOL, mover.namespace))
    eventually(lambda: len(fleet.api.list(POD, mover.namespace)) == pools, what="the old pool's pod is gone", within=90)


def test_move_to_a_class_whose_pods_cannot_start_leaves_the_task_where_it_is(fleet: Fleet, mover: Tenant) -> None:
    artifact, neighbour = fleet.artifact("moves"), fleet.artifact("stays-behind")
    fleet.serving_class("broken-class", engine={"image": "taskfleet.local/no-such-engine:v9"})
    before = identities(fleet.api, mover.namespace)
    with constant_load(fleet.gateway_url, [mover.target("moves", artifact), mover.target("stays", neighbour)], rate=20) as load:
        load.wait_for(10)
        mover.apply("moves", artifact, serving_class="broken-class")

        def told() -> bool:
            task = mover.get("moves")
            stalled = condition(task, "Stalled")
            assert stalled, said(task)
            assert stalled["reason"] == "ImageUnavailable", stalled
            return is_true(task, "Available")

        eventually(told, what="the missing image is told, and the task serves", describe=lambda: tell(fleet.api, mover.namespace))
        mover.apply("moves", artifact)
        ready(fleet.api, mover.namespace)
        load.wait_for(20)
    load.assert_no_error()
    eventually(lambda: len(fleet.api.list(POOL, mover.namespace)) == 1, what="the pool that never served is gone")
    minimal(before, identities(fleet.api, mover.namespace))
    fleet.remove_class("broken-class")
