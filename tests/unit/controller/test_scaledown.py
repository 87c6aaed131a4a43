"""Before fewer replicas are written: the emptiest pods are told to Kubernetes, and to zero all agents must have closed."""

import asyncio
from typing import Any

import pytest

from taskfleet import names
from taskfleet.api.agent import AgentProblem, AgentState, BaseReport, DrainReply, DrainRequest, EngineReport
from taskfleet.api.conditions import Reason
from taskfleet.api.modelpool import ModelPool
from taskfleet.controller.agents import AgentOutdatedError, AgentRefusedError, AgentUnreachableError
from taskfleet.controller.cache import Cache
from taskfleet.controller.keys import PoolKey
from taskfleet.controller.queue import RetryError
from taskfleet.controller.scaledown import HOLD_SECONDS, Prepared, Refused, ScaleDown
from taskfleet.controller.writer import Writer
from taskfleet.kube.errors import ForbiddenError, UnavailableError
from taskfleet.planning.snapshot import DeploymentView, PodView
from tests.unit.controller.api_server import MemoryApiServer
from tests.unit.controller.objects import body, pool

COST = names.ANNOTATION_DELETION_COST
KEY = PoolKey("finance", "tiny")


class _Agents:
    """Agents by pod: what each has in flight and for how long it has been idle, or the error that asking it raises."""

    def __init__(self) -> None:
        self.in_flight: dict[str, int] = {}
        self.idle: dict[str, float] = {}
        self.errors: dict[str, Exception] = {}
        self.outdated: set[str] = set()
        self.closed: dict[str, DrainRequest] = {}
        self.asked: list[str] = []

    async def look(self, pool: PoolKey, pod: str) -> AgentState:
        self._found(pool, pod)
        return AgentState(
            pod=pod,
            pool_uid="uid-tiny",
            generation=1,
            version=1,
            draining=False,
            base=BaseReport(staged=True, reason=Reason.PROVEN),
            engine=EngineReport(healthy=True),
            in_flight=self.in_flight.get(pod, 0),
        )

    async def drain(self, pool: PoolKey, pod: str, request: DrainRequest) -> DrainReply:
        self.asked.append(pod)
        self._found(pool, pod)
        if pod in self.outdated:
            raise AgentOutdatedError(f"pod {pod} answered 404")
        in_flight, idle = self.in_flight.get(pod, 0), self.idle.get(pod, 3600.0)
        accepted = not in_flight and idle >= request.idle_seconds
        if accepted:
            self.closed[pod] = request
        return DrainReply(accepted=accepted, in_flight=in_flight, idle_seconds=0.0 if in_flight else idle)

    async def undrain(self, pool: PoolKey, pod: str) -> None:
        self._found(pool, pod)
        self.closed.pop(pod, None)

    def _found(self, pool: PoolKey, pod: str) -> None:
        assert pool == KEY
        if pod in self.errors:
            raise self.errors[pod]


class _World:
    def __init__(self) -> None:
        self.server = MemoryApiServer()
        self.agents = _Agents()
        api: Any = self.server
        self.scale_down = ScaleDown(agents=self.agents, writer=Writer(api, Cache()))

    def pods(self, *views: PodView) -> list[PodView]:
        """They exist in the cluster, too."""
        for view in views:
            self.server.objects["Pod", "finance", view.name] = {**body(view.name, 1, uid=view.uid), "spec": {"nodeName": "n"}}
        return list(views)

    def cost(self, name: str) -> str | None:
        annotations = self.server.objects["Pod", "finance", name]["metadata"].get("annotations", {})
        found = annotations.get(COST)
        assert found is None or isinstance(found, str)
        return found


@pytest.fixture
def world() -> _World:
    return _World()


def tiny(replicas: int) -> ModelPool:
    return ModelPool.model_validate(pool("tiny", 1, ("a", "a-1"), replicas=replicas))


def pod(name: str, *, ready: bool = True, phase: str = "Running", ip: str = "10.0.0.1", cost: int = 0) -> PodView:
    return PodView(name=name, uid=f"uid-{name}", ip=ip, phase=phase, ready=ready, deletion_cost=cost)


async def test_emptiest_pod_is_told_by_what_agents_say_at_that_moment(world: _World) -> None:
    world.agents.in_flight = {"a": 4, "b": 1, "c": 3}
    assert await world.scale_down.prepare(tiny(3), world.pods(pod("a"), pod("b"), pod("c")), 2) == Prepared(leaving=("b",))
    assert [world.cost(name) for name in "abc"] == [None, "-1", None]
    assert world.server.writes == ["apply Pod b"]
    assert world.agents.asked == [], "its own end drains a pod while others stay"


async def test_nothing_but_the_cost_is_written(world: _World) -> None:
    await world.scale_down.prepare(tiny(2), world.pods(pod("a"), pod("b")), 1)
    (name,) = [name for name in "ab" if world.cost(name)]
    found = world.server.objects["Pod", "finance", name]
    assert found["spec"] == {"nodeName": "n"}
    (entry,) = found["metadata"]["managedFields"]
    assert entry["fieldsV1"].keys() == {"f:metadata"}
    assert entry["fieldsV1"]["f:metadata"].keys() == {"f:name", "f:namespace", "f:uid", "f:annotations"}


async def test_nothing_is_asked_or_written_for_a_pool_that_grows(world: _World) -> None:
    assert await world.scale_down.prepare(tiny(2), world.pods(pod("a")), 3) == Prepared()
    assert (world.agents.asked, world.server.writes) == ([], [])


async def test_pod_that_has_gone_meanwhile_needs_no_cost(world: _World) -> None:
    pods = world.pods(pod("a"), pod("b"))
    world.agents.in_flight = {"b": 1}
    del world.server.objects["Pod", "finance", "a"]
    assert await world.scale_down.prepare(tiny(2), pods, 1) == Prepared(leaving=("a",))
    assert ("Pod", "finance", "a") not in world.server.objects


async def test_missing_right_on_pods_keeps_no_pool_big(world: _World) -> None:
    pods = world.pods(pod("a"), pod("b"))
    world.server.refuse = ForbiddenError('cannot patch resource "pods"', status=403)
    assert isinstance(await world.scale_down.prepare(tiny(2), pods, 1), Prepared)


async def test_api_server_that_is_away_is_tried_again(world: _World) -> None:
    pods = world.pods(pod("a"), pod("b"))
    world.server.refuse = UnavailableError("away")
    with pytest.raises(RetryError):
        await world.scale_down.prepare(tiny(2), pods, 1)


async def test_agent_that_cant_be_asked_keeps_no_pool_big_and_its_pod_stays(world: _World) -> None:
    world.agents.errors["a"] = AgentUnreachableError("pod a: timeout")
    world.agents.in_flight["b"] = 9
    assert await world.scale_down.prepare(tiny(2), world.pods(pod("a"), pod("b")), 1) == Prepared(leaving=("b",))


@pytest.mark.parametrize(("deployment", "wanted", "marked"), [(3, 2, "b"), (2, 2, None), (3, 0, None), (2, 3, None), (None, 2, None)])
async def test_where_another_autoscaler_wrote_the_replicas_the_emptiest_still_goes_first(
    world: _World, deployment: int | None, wanted: int, marked: str | None
) -> None:
    world.agents.in_flight = {"a": 4, "b": 1, "c": 3}
    view = DeploymentView(replicas=deployment) if deployment is not None else None
    await world.scale_down.follow(tiny(wanted), view, world.pods(pod("a"), pod("b"), pod("c")))
    assert [name for name in "abc" if world.cost(name) is not None] == ([marked] if marked else [])
    assert world.agents.asked == []


async def test_idle_pool_is_closed_before_it_goes_to_zero(world: _World) -> None:
    pods = world.pods(pod("a"), pod("b"))
    prepared = await world.scale_down.prepare(tiny(2), pods, 0, idle_seconds=300)
    assert prepared == Prepared(leaving=("a", "b"), closed=("a", "b"))
    assert world.agents.closed == {name: DrainRequest(idle_seconds=300, hold_seconds=HOLD_SECONDS) for name in "ab"}
    assert world.server.writes == [], "all go, in whichever order"
    assert isinstance(prepared, Prepared)
    await world.scale_down.release(tiny(2), prepared)
    assert world.agents.closed == {}


@pytest.mark.parametrize(
    ("in_flight", "idle", "message"),
    [(2, 0.0, "pod b has 2 requests in flight"), (0, 12.0, "pod b has been idle for 12 s only")],
)
async def test_one_pod_in_use_keeps_all_and_the_others_are_opened_again(world: _World, in_flight: int, idle: float, message: str) -> None:
    world.agents.in_flight["b"] = in_flight
    world.agents.idle["b"] = idle
    pods = world.pods(pod("a"), pod("b"), pod("c"))
    assert await world.scale_down.prepare(tiny(3), pods, 0, idle_seconds=300) == Refused(message)
    assert sorted(world.agents.asked) == ["a", "b", "c"]
    assert world.agents.closed == {}


async def test_ready_pod_that_does_not_answer_keeps_all(world: _World) -> None:
    world.agents.errors["b"] = AgentUnreachableError("pod b: timeout")
    assert await world.scale_down.prepare(tiny(2), world.pods(pod("a"), pod("b")), 0) == Refused("pod b: timeout")
    assert world.agents.closed == {}


async def test_answer_that_was_lost_may_have_been_an_acceptance(world: _World) -> None:
    """The pod had closed when the connection broke: it must not stay closed for as long as it holds."""

    async def breaks_off(pool: PoolKey, pod: str, request: DrainRequest) -> DrainReply:
        assert pool == KEY
        world.agents.closed[pod] = request
        raise AgentUnreachableError(f"pod {pod}: broken")

    world.agents.drain = breaks_off  # type: ignore[method-assign]
    assert await world.scale_down.prepare(tiny(1), world.pods(pod("a")), 0) == Refused("pod a: broken")
    assert world.agents.closed == {}


async def test_pod_that_gets_no_requests_and_does_not_answer_keeps_no_pool(world: _World) -> None:
    """Its node is gone, say; and one that has just come has not been idle for long."""
    world.agents.errors["lost"] = AgentUnreachableError("pod lost: timeout")
    world.agents.idle["new"] = 1.0
    pods = world.pods(pod("a"), pod("lost", ready=False), pod("new", ready=False), pod("pending", ready=False, phase="Pending", ip=""))
    prepared = await world.scale_down.prepare(tiny(4), pods, 0, idle_seconds=300)
    assert isinstance(prepared, Prepared)
    assert set(prepared.closed) == {"a", "new"}


async def test_pod_that_is_no_longer_ready_finishes_what_it_has(world: _World) -> None:
    world.agents.in_flight["b"] = 1
    found = await world.scale_down.prepare(tiny(2), world.pods(pod("a"), pod("b", ready=False)), 0)
    assert found == Refused("pod b has 1 requests in flight")


async def test_agent_of_an_earlier_version_is_looked_at_instead(world: _World) -> None:
    world.agents.outdated = {"a"}
    assert isinstance(await world.scale_down.prepare(tiny(1), world.pods(pod("a")), 0, idle_seconds=300), Prepared)
    world.agents.in_flight["a"] = 1
    assert await world.scale_down.prepare(tiny(1), world.pods(pod("a")), 0) == Refused("pod a has 1 requests in flight")


async def test_words_of_an_agent_are_bounded(world: _World) -> None:
    problem = AgentProblem(reason="InvalidSpec", message="x" * 100_000, permanent=True)
    world.agents.errors = {name: AgentRefusedError(problem) for name in "ab"}
    found = await world.scale_down.prepare(tiny(2), world.pods(pod("a"), pod("b")), 0)
    assert isinstance(found, Refused)
    assert len(found.message) < 400
    assert found.message.endswith("(and 1 more)")


async def test_pods_are_asked_side_by_side(world: _World) -> None:
    """One that answers late must not make the others hold for longer than they promised."""
    asked = 0
    everybody = asyncio.Event()
    answer = world.agents.drain

    async def slow(pool: PoolKey, pod: str, request: DrainRequest) -> DrainReply:
        nonlocal asked
        asked += 1
        if asked == 3:
            everybody.set()
        await asyncio.wait_for(everybody.wait(), 60)
        return await answer(pool, pod, request)

    world.agents.drain = slow  # type: ignore[method-assign]
    pods = world.pods(pod("a"), pod("b"), pod("c"))
    assert isinstance(await world.scale_down.prepare(tiny(3), pods, 0), Prepared)
