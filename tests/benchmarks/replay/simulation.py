"""Replays requests against pods whose number a rule decides. Everything happens in the order of its time; nothing is drawn at random.

Requests go to pods by the gateway's own choice (`taskfleet.gateway.pick`), whatever the rule, and stay with the pod that they were sent to. Where no pod is ready they are held,
without limit, and go out in the order of their coming once one is. A pod that is to go is one that still starts, the youngest first, or else the one with the fewest requests.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from taskfleet.gateway.pick import pick_pod
from taskfleet.gateway.records import Endpoint
from tests.benchmarks.replay.engine import Flight, Pod, State, Timings
from tests.benchmarks.replay.rules import Demand, Observation, Rule
from tests.benchmarks.replay.scenarios import Scenario
from tests.benchmarks.replay.trace import Request

ARRIVAL, END, READY, LOOK, WAKE = range(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a replay. `replica_seconds`: of all pods from their creation until they are gone, within the scenario's time. `scales`: times and replicas as written."""

    rule: str
    flights: tuple[Flight, ...]
    replica_seconds: float
    scales: tuple[tuple[float, int], ...]


def replay(scenario: Scenario, rule: Rule, timings: Timings, *, begin_with: int = 1, starts: Sequence[float] = ()) -> Outcome:
    """Runs until the last request has ended. `begin_with`: pods that are ready at the beginning. `starts`: the cold starts of the pods that are made after them, as far as told."""
    return _Replay(scenario, rule, timings, begin_with, starts).run()


class _Replay:
    def __init__(self, scenario: Scenario, rule: Rule, timings: Timings, begin_with: int, starts: Sequence[float]) -> None:
        self._scenario, self._rule, self._timings = scenario, rule, timings
        self._starts = deque(starts)
        self._events: list[tuple[float, int, int, Request | Pod | None, int]] = []
        self._order = 0
        self._now = 0.0
        self._pods: dict[str, Pod] = {}  # all that exist, in the order of their making
        self._made = 0
        self._endpoints: tuple[Endpoint, ...] = ()
        self._load: dict[str, int] = {}
        self._held: deque[Flight] = deque()
        self._flights: list[Flight] = []
        self._unfinished = len(scenario.requests)
        self._demand = Demand()
        self._replicas = begin_with
        self._waking = False
        self._replica_seconds = 0.0
        self._scales: list[tuple[float, int]] = []
        for _ in range(begin_with):
            self._make(ready=True)
        self._publish()

    def run(self) -> Outcome:
        for request in self._scenario.requests:
            self._at(request.at, ARRIVAL, request)
        self._at(0.0, LOOK, None)
        while self._unfinished or self._now < self._scenario.seconds:
            at, _, kind, what, version = heapq.heappop(self._events)
            self._pass(at)
            if kind == ARRIVAL and isinstance(what, Request):
                self._arrive(what)
            elif kind == END and isinstance(what, Pod):
                self._end(what, version)
            elif kind == READY and isinstance(what, Pod):
                self._ready(what)
            elif kind == LOOK:
                self._look()
                self._at(self._now + self._rule.interval, LOOK, None)
            elif kind == WAKE:
                self._waking = False
                self._look()
        return Outcome(
            rule=self._rule.name, flights=tuple(self._flights), replica_seconds=self._replica_seconds, scales=tuple(self._scales)
        )

    def _at(self, at: float, kind: int, what: Request | Pod | None) -> None:
        self._order += 1
        heapq.heappush(self._events, (at, self._order, kind, what, what.version if isinstance(what, Pod) else 0))

    def _pass(self, at: float) -> None:
        """Time goes on."""
        end = self._scenario.seconds
        self._replica_seconds += len(self._pods) * (min(at, end) - min(self._now, end))
        self._now = at

    def _arrive(self, request: Request) -> None:
        flight = Flight(request)
        self._flights.append(flight)
        self._demand.count(request.task, self._now, held=1, arrivals=1)
        self._held.append(flight)
        self._send()
        if not self._replicas and not self._waking and self._rule.wakes_after is not None:
            self._waking = True
            self._at(self._now + self._rule.wakes_after, WAKE, None)

    def _send(self) -> None:
        """Give what is held to pods, if there are any."""
        while self._held and self._endpoints:
            flight = self._held.popleft()
            model = f"task-{flight.request.task}"
            endpoint = pick_pod(model, self._endpoints, self._load, ())
            assert endpoint is not None
            pod = self._pods[endpoint.address]
            pod.take(flight, self._now)
            self._load[pod.address] = pod.load
            self._demand.count(flight.request.task, self._now, held=-1, in_flight=1)
            self._expect(pod)

    def _expect(self, pod: Pod) -> None:
        """What was announced before is passed over when it comes: the pod has another version by then."""
        due = pod.due()
        if due is not None:
            self._at(due, END, pod)

    def _end(self, pod: Pod, version: int) -> None:
        if pod.version != version:
            return
        flight = pod.finish(self._now)
        self._unfinished -= 1
        self._load[pod.address] = pod.load
        self._demand.count(flight.request.task, self._now, in_flight=-1)
        self._expect(pod)
        if pod.state is State.DRAINING and not pod.load:
            del self._pods[pod.address]

    def _ready(self, pod: Pod) -> None:
        if pod.address in self._pods:
            pod.state = State.READY
            self._publish()
            self._send()

    def _look(self) -> None:
        self._demand.advance(self._now)
        ready = len(self._endpoints)
        wanted = self._rule.replicas(
            Observation(now=self._now, replicas=self._replicas, ready=ready, starting=self._replicas - ready, demand=self._demand)
        )
        if wanted == self._replicas:
            return
        self._scales.append((self._now, wanted))
        for _ in range(wanted - self._replicas):
            self._make(ready=False)
        for _ in range(self._replicas - wanted):
            self._remove()
        self._replicas = wanted
        self._publish()

    def _make(self, *, ready: bool) -> None:
        pod = Pod(self._made, self._timings, created=self._now, state=State.READY if ready else State.STARTING)
        self._made += 1
        self._pods[pod.address] = pod
        if not ready:
            seconds = self._starts.popleft() if self._starts else self._timings.cold_start_seconds
            self._at(self._now + seconds, READY, pod)

    def _remove(self) -> None:
        starting = [pod for pod in self._pods.values() if pod.state is State.STARTING]
        ready = [pod for pod in self._pods.values() if pod.state is State.READY]
        pod = starting[-1] if starting else min(ready, key=lambda one: (one.load, -one.number))
        if pod.load:
            pod.state = State.DRAINING
        else:
            del self._pods[pod.address]

    def _publish(self) -> None:
        ready = [pod for pod in self._pods.values() if pod.state is State.READY]
        self._endpoints = tuple(endpoint(pod.number) for pod in ready)
        self._load = {pod.address: pod.load for pod in ready}


def endpoint(number: int) -> Endpoint:
    """A pod as the gateway knows it."""
    return Endpoint(address=f"pod-{number}", pool_uid="replay")
