"""How long a pod took to be Ready, part by part, from what Kubernetes and its agent tell.

Sources: the pod's creation and its conditions PodScheduled and Ready, and the start of the engine's container, by Kubernetes in whole seconds; all between by the agent, to the
millisecond. Each moment is taken as no earlier than the one before it, so rounding and clocks that differ a little move a second from one part to its neighbour and add none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from taskfleet.api.modelpool import PhaseSeconds, StartPhase, StartStatus
from taskfleet.planning.conditions import timestamp
from taskfleet.planning.podtrouble import ENGINE_CONTAINER
from taskfleet.planning.snapshot import AgentView, ContainerView, PodView

AGENT_CONTAINER = "agent"
# Kubernetes' times are cut to whole seconds.
_RESOLUTION = timedelta(seconds=1)
_TENTH = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class StartWatch:
    """What is remembered of one pool's pods, by UID. The empty one knows of none, and tells nothing of pods that it finds Ready."""

    starting: frozenset[str] = frozenset()  # seen before they were Ready, and not told of yet
    started: frozenset[str] = frozenset()  # been Ready once: a pod that is Ready again has not started again

    def looked(self, pods: Iterable[PodView], agents: Iterable[AgentView]) -> tuple["StartWatch", tuple[StartStatus, ...]]:
        """After one more look, with the starts that it completes: each pod's once, and only where it was seen to start."""
        views = {agent.pod: agent for agent in agents}
        starting, started, told = set[str](), set[str](), list[StartStatus]()
        for pod in sorted(pods, key=lambda pod: pod.name):
            if pod.uid in self.started:
                started.add(pod.uid)
            elif not pod.ready:
                starting.add(pod.uid)
            elif pod.uid not in self.starting:
                started.add(pod.uid)
            elif (start := start_of(pod, views.get(pod.name))) is None:
                # Its agent may be heard in a moment.
                starting.add(pod.uid)
            else:
                started.add(pod.uid)
                told.append(start)
        return StartWatch(frozenset(starting), frozenset(started)), tuple(told)


def start_of(pod: PodView, agent: AgentView | None) -> StartStatus | None:
    """The start of a Ready pod. None where it can't be told: its agent was not heard, is of an earlier version, or was restarted meanwhile."""
    report = agent.state.start if agent is not None and agent.state is not None else None
    container = {found.name: found for found in pod.containers}
    beside = container.get(AGENT_CONTAINER)
    if report is None or pod.created_at is None or pod.ready_at is None or beside is None or beside.restarts:
        return None
    ready = pod.ready_at + _RESOLUTION
    # The agent is in its tenant's namespace, so what it says is held within what Kubernetes says.
    scheduled, runs, base, engine, healthy, settled, end = _in_order(
        pod.created_at,
        *(
            min(moment, ready)
            for moment in (
                pod.scheduled_at or pod.created_at,
                report.agent_at,
                report.base_at,
                _engine_started(container.get(ENGINE_CONTAINER), otherwise=report.base_at),
                report.engine_at,
                report.adapters_at,
            )
        ),
        pod.ready_at,
    )
    return _status(
        pod,
        {
            StartPhase.SCHEDULE: scheduled,
            StartPhase.PULL: runs - scheduled + engine - base,
            StartPhase.BASE: base - runs,
            StartPhase.ENGINE: healthy - engine,
            StartPhase.ADAPTERS: settled - healthy,
            StartPhase.READY: end - settled,
        },
        created=pod.created_at,
    )


def later_start(before: StartStatus | None, found: StartStatus | None) -> StartStatus | None:
    """The start of the pod that was created later; the recorded one stays where both are of one second, so that nothing is written in turns."""
    if before is None or found is None:
        return before or found
    return found if datetime.fromisoformat(found.created_time) > datetime.fromisoformat(before.created_time) else before


def latest(starts: Iterable[StartStatus]) -> StartStatus | None:
    """The start of the pod that was created last."""
    found = None
    for start in starts:
        found = later_start(found, start)
    return found


def _engine_started(container: ContainerView | None, *, otherwise: datetime) -> datetime:
    """An engine that was restarted tells of its last run only; then all since the base was there is the engine's."""
    return otherwise if container is None or container.started_at is None or container.restarts else container.started_at


def _in_order(begin: datetime, *moments: datetime) -> list[int]:
    """Tenths of a second since the beginning, none less than the one before."""
    found = [0]
    for moment in moments:
        found.append(max(found[-1], round((moment - begin) / _TENTH)))
    return found[1:]


def _status(pod: PodView, tenths: Mapping[StartPhase, int], *, created: datetime) -> StartStatus:
    return StartStatus(
        pod=pod.name,
        created_time=timestamp(created),
        seconds=_decimal(sum(tenths.values())),
        slowest=max(tenths, key=lambda phase: tenths[phase]),
        phases=[PhaseSeconds(phase=phase, seconds=_decimal(length)) for phase, length in tenths.items()],
    )


def _decimal(tenths: int) -> str:
    return f"{tenths // 10}.{tenths % 10}"
