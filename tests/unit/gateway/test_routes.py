"""The route table while the cluster changes under it."""

import random
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from taskfleet.gateway.model_name import ModelName
from taskfleet.gateway.routes import RouteTable
from taskfleet.names import engine_name
from tests.unit.gateway.builders import DIGEST, OTHER_DIGEST, endpoints, pool, revision, task, traffic

KEY = ("finance", "vendor")


def serving() -> RouteTable:
    table = RouteTable()
    table.put_task(task(to=[traffic("vendor-1")]))
    table.put_revision(revision("vendor-1"))
    return table


def in_force(table: RouteTable) -> list[tuple[str, str | None, int]]:
    route = table.route(KEY)
    return [(target.revision.name, target.pool, target.weight) for target in route.targets] if route else []


def test_published_traffic_is_acted_on() -> None:
    table = serving()
    route = table.route(KEY)
    assert route is not None
    assert route.published
    assert in_force(table) == [("vendor-1", "tiny-pool", 100)]
    assert route.targets[0].model == engine_name("finance", "vendor", DIGEST)


def test_task_without_adapter_is_asked_for_by_its_pools_name() -> None:
    table = RouteTable()
    table.put_revision(revision("vendor-1", adapter=False, digest=None))
    table.put_task(task(to=[traffic("vendor-1")]))
    route = table.route(KEY)
    assert route is not None
    assert route.targets[0].model == "tiny-pool"


def test_emptied_status_takes_no_route_away() -> None:
    table = serving()
    for emptied in (task(to=[]), task()):
        table.put_task(emptied)
        assert in_force(table) == [("vendor-1", "tiny-pool", 100)]


def test_deleted_task_is_gone_at_once() -> None:
    for table in (serving(), serving()):
        table.remove_task(KEY)
        assert table.task(KEY) is None
        assert table.route(KEY) is None
    table = serving()
    table.put_task(task(to=[traffic("vendor-1")], deleted=True))
    assert table.task(KEY) is None


def test_task_of_the_same_name_inherits_no_route() -> None:
    table = serving()
    table.put_task(task(uid="uid-2"))
    assert table.route(KEY) is None


def test_switch_waits_until_the_new_revision_is_whole() -> None:
    table = serving()
    table.put_task(task(to=[traffic("vendor-2")]))
    assert in_force(table) == [("vendor-1", "tiny-pool", 100)]
    table.put_revision(revision("vendor-2", digest=None, phase="Pending"))
    assert in_force(table) == [("vendor-1", "tiny-pool", 100)]
    table.put_revision(revision("vendor-2", digest=OTHER_DIGEST, phase="Pending"))
    assert in_force(table) == [("vendor-2", "tiny-pool", 100)]


def test_revision_of_the_same_name_with_another_uid_is_another_one() -> None:
    table = RouteTable()
    table.put_revision(revision("vendor-1", phase="Pending"))
    table.put_task(task(to=[traffic("vendor-1") | {"uid": "uid-earlier"}]))
    assert table.route(KEY) is None


def test_route_survives_the_deletion_of_its_revision() -> None:
    table = serving()
    table.remove_revision("finance", "vendor-1")
    assert in_force(table) == [("vendor-1", "tiny-pool", 100)]


def test_cold_gateway_without_status_asks_for_the_newest_stable_revision() -> None:
    table = RouteTable()
    table.put_task(task())
    assert table.route(KEY) is None
    table.put_revision(revision("vendor-1", created="2026-01-01T00:00:00Z"))
    table.put_revision(revision("vendor-2", created="2026-01-02T00:00:00Z", digest=OTHER_DIGEST))
    table.put_revision(revision("vendor-3", created="2026-01-03T00:00:00Z", phase="Pending"))
    route = table.route(KEY)
    assert route is not None
    assert not route.published
    assert in_force(table) == [("vendor-2", None, 100)]


def test_status_that_comes_later_replaces_the_guess() -> None:
    table = RouteTable()
    table.put_revision(revision("vendor-1"))
    table.put_task(task())
    table.put_task(task(to=[traffic("vendor-1")]))
    assert in_force(table) == [("vendor-1", "tiny-pool", 100)]


def test_stable_revision_of_an_earlier_task_of_the_same_name_is_not_used() -> None:
    table = RouteTable()
    table.put_revision(revision("vendor-1", owner="uid-earlier"))
    table.put_task(task())
    assert table.route(KEY) is None


def test_base_is_never_asked_for_in_an_unknown_pool() -> None:
    table = RouteTable()
    table.put_task(task())
    table.put_revision(revision("vendor-1", adapter=False, digest=None))
    assert table.route(KEY) is None


def test_same_names_in_two_namespaces_are_apart() -> None:
    table = serving()
    table.put_task(task(namespace="legal", uid="uid-9", to=[traffic("vendor-1", pool="other-pool")]))
    table.put_revision(revision("vendor-1", namespace="legal", owner="uid-9"))
    legal, finance = table.route(("legal", "vendor")), table.route(KEY)
    assert legal is not None
    assert finance is not None
    assert legal.targets[0].model != finance.targets[0].model
    table.remove_task(("legal", "vendor"))
    assert in_force(table) == [("vendor-1", "tiny-pool", 100)]


def test_pin_takes_the_name_or_the_hash_at_its_end() -> None:
    table = serving()
    table.put_revision(revision("vendor-2", digest=OTHER_DIGEST, phase="Pending"))
    for pin in ("vendor-2", "2"):
        found = table.pinned(ModelName("finance", "vendor", pin))
        assert found is not None
        assert (found.revision.name, found.pool) == ("vendor-2", None)
    in_traffic = table.pinned(ModelName("finance", "vendor", "1"))
    assert in_traffic is not None
    assert in_traffic.pool == "tiny-pool"


def test_pin_reaches_no_revision_of_another_task() -> None:
    table = serving()
    table.put_task(task("total", uid="uid-5"))
    table.put_revision(revision("total-1", of="total", owner="uid-5"))
    table.put_revision(revision("vendor-0", owner="uid-earlier"))
    for pin in ("total-1", "vendor-0", "0", "nothing"):
        assert table.pinned(ModelName("finance", "vendor", pin)) is None


def test_endpoints_come_from_all_slices_of_a_pool_and_go_with_them() -> None:
    table = RouteTable()
    table.put_pool(pool())
    table.put_pool(pool("other"))
    table.put_slice(endpoints("10.0.0.1", name="a"))
    table.put_slice(endpoints("10.0.0.2", name="b"))
    table.put_slice(endpoints("10.0.0.3", name="c", pool="other"))
    assert [endpoint.address for endpoint in table.endpoints("finance", "tiny-pool")] == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert len(table.endpoints("finance", None)) == 3
    assert table.endpoints("legal", None) == ()
    table.remove_slice("finance", "a")
    table.put_slice(endpoints(name="b"))
    assert table.endpoints("finance", "tiny-pool") == ()
    assert len(table.endpoints("finance", None)) == 1


def test_pod_that_claims_another_pools_uid_is_never_asked() -> None:
    table = RouteTable()
    table.put_slice(endpoints("10.0.0.1"))
    assert table.endpoints("finance", "tiny-pool") == ()
    table.put_pool(pool(uid="uid-of-a-later-pool"))
    assert table.endpoints("finance", "tiny-pool") == table.endpoints("finance", None) == ()
    table.put_pool(pool())
    assert len(table.endpoints("finance", "tiny-pool")) == 1
    table.remove_pool("finance", "tiny-pool")
    assert table.endpoints("finance", "tiny-pool") == table.endpoints("finance", None) == ()


def test_every_change_is_announced_and_an_unchanged_slice_is_none() -> None:
    announced: list[str] = []
    table = RouteTable(on_change=announced.append)
    table.put_slice(endpoints("10.0.0.1"))
    table.put_slice(endpoints("10.0.0.1"))
    assert len(announced) == 1
    table.put_pool(pool())
    table.put_pool(pool())
    assert len(announced) == 2
    table.put_task(task())
    table.put_revision(revision())
    table.remove_task(KEY)
    assert len(announced) == 5


@given(st.randoms(use_true_random=False))
def test_order_of_arrival_does_not_matter(shuffle: random.Random) -> None:
    table = RouteTable()
    steps: list[Callable[[], None]] = [
        lambda: table.put_task(task(to=[traffic("vendor-1", weight=90), traffic("vendor-2", weight=10)])),
        lambda: table.put_revision(revision("vendor-1")),
        lambda: table.put_revision(revision("vendor-2", digest=OTHER_DIGEST, phase="Pending")),
        lambda: table.put_slice(endpoints("10.0.0.1")),
        lambda: table.put_pool(pool()),
    ]
    shuffle.shuffle(steps)
    for step in steps:
        step()
    assert in_force(table) == [("vendor-1", "tiny-pool", 90), ("vendor-2", "tiny-pool", 10)]
    assert len(table.endpoints("finance", "tiny-pool")) == 1


@given(st.lists(st.sampled_from(["publish", "empty", "digest", "forget", "phase"]), max_size=12))
def test_route_once_in_force_stays_until_the_task_goes(events: list[str]) -> None:
    table = serving()
    for event in events:
        if event == "publish":
            table.put_task(task(to=[traffic("vendor-2")]))
        elif event == "empty":
            table.put_task(task(to=[]))
        elif event == "digest":
            table.put_revision(revision("vendor-2", digest=OTHER_DIGEST))
        elif event == "forget":
            table.remove_revision("finance", "vendor-1")
        else:
            table.put_revision(revision("vendor-1", phase="Superseded"))
        route = table.route(KEY)
        assert route is not None
        assert sum(target.weight for target in route.targets) == 100
        assert all(target.model for target in route.targets)
