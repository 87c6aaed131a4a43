"""What is done before a pool gets fewer replicas, so that none of its requests meets a pod that is gone.

To fewer pods: the pods that go are told to Kubernetes by their deletion cost, the emptiest first, and their own end drains them. To none: every agent must have accepted to let
nothing in; then a request goes nowhere but into the gateway's hold, and wakes the pool. Drains that were accepted end by themselves, so an operator that dies before it writes
the replicas leaves no pod that refuses for ever.
"""

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from taskfleet.api.agent import AgentState, DrainReply, DrainRequest
from taskfleet.api.modelpool import ModelPool
from taskfleet.controller.agents import AgentOutdatedError, AgentRefusedError, AgentUnreachableError
from taskfleet.controller.keys import PoolKey
from taskfleet.controller.writer import RefusedError, Writer
from taskfleet.kube.resources import PODS
from taskfleet.logs import fields
from taskfleet.planning.scaling import scaledown as planning
from taskfleet.planning.scaling.scaledown import PodLoad
from taskfleet.planning.snapshot import DeploymentView, PodView
from taskfleet.resources.deletion_cost import deletion_cost

log = logging.getLogger(__name__)

# Between an accepted drain and the end of the pod lie two writes and Kubernetes' own work.
HOLD_SECONDS = 30.0
# An agent's own words may be among it, and agents run in their tenants' namespaces.
MAX_MESSAGE = 300


class Agents(Protocol):
    """`controller.agents.AgentConnections` has it."""

    async def look(self, pool: PoolKey, pod: str) -> AgentState: ...
    async def drain(self, pool: PoolKey, pod: str, request: DrainRequest) -> DrainReply: ...
    async def undrain(self, pool: PoolKey, pod: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """Fewer replicas may be written now. `leaving`: the pods that are expected to go, the first first; `closed`: those that let nothing in."""

    leaving: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The replicas have to stay. `message` says which pod is in use, or can't be asked."""

    message: str


class ScaleDown:
    """To be asked just before fewer replicas of a pool are written, and only then."""

    def __init__(self, *, agents: Agents, writer: Writer) -> None:
        self._agents = agents
        self._writer = writer

    async def prepare(self, pool: ModelPool, pods: Sequence[PodView], wanted: int, *, idle_seconds: float = 0.0) -> Prepared | Refused:
        """From what the pool has to `wanted` replicas; `pods` are all of its pods.

        `idle_seconds`: for how long no Ready pod may have had a request, as its agent knows; for going to zero only. Raises RetryError where the API server can't be asked.
        """
        if wanted >= pool.spec.replicas:
            return Prepared()
        if wanted > 0:
            return Prepared(await self.mark(pool, pods, current=pool.spec.replicas, wanted=wanted))
        plan = planning.plan([PodLoad(pod=pod) for pod in pods], current=pool.spec.replicas, wanted=wanted)
        answers = await self._close(_key(pool), plan, idle_seconds)
        return answers if isinstance(answers, Refused) else Prepared(plan.leaving, answers)

    async def mark(self, pool: ModelPool, pods: Sequence[PodView], *, current: int, wanted: int) -> tuple[str, ...]:
        """Tells Kubernetes which pods go first, the emptiest of this moment, and returns them; for a pool that keeps some. Raises RetryError."""
        key = _key(pool)
        plan = planning.plan(await asyncio.gather(*(self._load(key, pod) for pod in pods)), current=current, wanted=wanted)
        for pod in pods:
            if pod.name in plan.costs:
                await self._write(key, pod, plan.costs[pod.name])
        return plan.leaving

    async def follow(self, pool: ModelPool, deployment: DeploymentView | None, pods: Sequence[PodView]) -> None:
        """Another autoscaler has written fewer replicas already, and the Deployment is about to follow: which pods go is still ours to say. Raises RetryError."""
        if deployment is not None and 0 < pool.spec.replicas < deployment.replicas:
            await self.mark(pool, pods, current=deployment.replicas, wanted=pool.spec.replicas)

    async def release(self, pool: ModelPool, prepared: Prepared) -> None:
        """The replicas were not written after all: pods that let nothing in do so again."""
        await self._reopen(_key(pool), prepared.closed)

    async def _load(self, key: PoolKey, pod: PodView) -> PodLoad:
        try:
            return PodLoad(pod=pod, in_flight=(await self._agents.look(key, pod.name)).in_flight if pod.reachable else None)
        except (AgentUnreachableError, AgentRefusedError):
            return PodLoad(pod=pod)

    async def _close(self, key: PoolKey, plan: planning.ScaleDownPlan, idle_seconds: float) -> tuple[str, ...] | Refused:
        """The pods that have closed, which are all; or why not, and then none is."""
        # A pod that is not Ready gets no requests, and may have come a moment ago; it is asked for what it still has in flight only.
        wishes = [idle_seconds if pod in plan.must_answer else 0.0 for pod in plan.ask]
        answers = await asyncio.gather(*(self._ask(key, pod, wish) for pod, wish in zip(plan.ask, wishes, strict=True)))
        by_pod = dict(zip(plan.ask, answers, strict=True))
        objections = [
            text for pod, answer in by_pod.items() if (text := _objection(pod, answer, must_answer=pod in plan.must_answer)) is not None
        ]
        if objections:
            # Whoever did not answer in time may have accepted.
            await self._reopen(key, [pod for pod, answer in by_pod.items() if not isinstance(answer, DrainReply) or answer.accepted])
            more = f" (and {len(objections) - 1} more)" if len(objections) > 1 else ""
            return Refused(f"{objections[0][:MAX_MESSAGE]}{more}")
        return tuple(pod for pod, answer in by_pod.items() if isinstance(answer, DrainReply))

    async def _ask(self, key: PoolKey, pod: str, idle_seconds: float) -> DrainReply | str:
        """The agent's answer, or why there is none."""
        try:
            try:
                return await self._agents.drain(key, pod, DrainRequest(idle_seconds=idle_seconds, hold_seconds=HOLD_SECONDS))
            except AgentOutdatedError:
                # It can't close. What comes between this look and the pod's end is finished by that end's own drain.
                in_flight = (await self._agents.look(key, pod)).in_flight
                return DrainReply(accepted=in_flight == 0, in_flight=in_flight, idle_seconds=0.0)
        except (AgentUnreachableError, AgentRefusedError) as error:
            return str(error)

    async def _reopen(self, key: PoolKey, pods: Collection[str]) -> None:
        results = await asyncio.gather(*(self._agents.undrain(key, pod) for pod in pods), return_exceptions=True)
        for pod, result in zip(pods, results, strict=True):
            if isinstance(result, AgentUnreachableError | AgentRefusedError):
                log.info("pod not opened again, it will do so by itself", extra=fields(pool=str(key), pod=pod, why=str(result)))
            elif isinstance(result, BaseException):
                raise result

    async def _write(self, key: PoolKey, pod: PodView, cost: int) -> None:
        try:
            await self._writer.apply_part(PODS, deletion_cost(pod, namespace=key.namespace, cost=cost))
        except RefusedError as error:
            # Which pod goes is a preference; whichever does is drained by its end.
            log.warning("pod's deletion cost is refused", extra=fields(pool=str(key), pod=pod.name, why=str(error)))


def _objection(pod: str, answer: DrainReply | str, *, must_answer: bool) -> str | None:
    if isinstance(answer, str):
        return answer if must_answer else None
    if answer.accepted:
        return None
    if answer.in_flight:
        return f"pod {pod} has {answer.in_flight} requests in flight"
    return f"pod {pod} has been idle for {answer.idle_seconds:.0f} s only"


def _key(pool: ModelPool) -> PoolKey:
    return PoolKey(pool.metadata.namespace, pool.metadata.name)
