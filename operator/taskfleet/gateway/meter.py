"""Figures per task and revision. Engines have none per adapter, so what a task costs and how well it answers is measured here.

Labels come only from TaskModels that exist, never from what a client wrote, and go with them: their number is bounded by the fleet's.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from taskfleet.gateway.records import Key
from taskfleet.gateway.stream import Usage
from taskfleet.gateway.votes import Verdict

_REVISION = ("namespace", "task_model", "revision")
# Small models answer in tens of milliseconds, long generations in minutes.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

# The client left before its answer was complete; nginx's number for it.
CLIENT_GONE = 499
NO_REVISION = ""  # the request ended before a revision was chosen


@dataclass(slots=True)
class RevisionMeter:
    """The figures of one revision."""

    duration: Histogram
    first_token: Histogram
    prompt_tokens: Counter
    completion_tokens: Counter
    in_flight: Gauge
    count_code: Callable[[int], Counter]
    count_verdict: Callable[[Verdict], Counter]
    corrections: Counter
    gone: bool = False  # deleted while requests are under way: what they still count must not bring the labels back
    codes: dict[int, Counter] = field(default_factory=dict)
    verdicts: dict[Verdict, Counter] = field(default_factory=dict)

    def ended(self, code: int, seconds: float) -> None:
        """A request ended with an HTTP status."""
        self.duration.observe(seconds)
        if (counter := self.codes.get(code)) is None:
            if self.gone:
                return
            counter = self.codes[code] = self.count_code(code)
        counter.inc()

    def used(self, usage: Usage) -> None:
        """The engine told the tokens of an answer."""
        self.prompt_tokens.inc(usage.prompt_tokens)
        self.completion_tokens.inc(usage.completion_tokens)

    def voted(self, verdict: Verdict, *, corrected: bool) -> None:
        """A user has judged an answer, and may have said what would have been right."""
        if (counter := self.verdicts.get(verdict)) is None:
            counter = self.verdicts[verdict] = self.count_verdict(verdict)
        counter.inc()
        if corrected:
            self.corrections.inc()


class Meter:
    """All figures of a gateway replica, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "taskfleet_gateway_requests", "Requests by HTTP status; 499: the client left.", (*_REVISION, "code"), registry=registry
        )
        self._duration = Histogram(
            "taskfleet_gateway_request_duration_seconds",
            "From the request's head to the answer's end.",
            _REVISION,
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_token = Histogram(
            "taskfleet_gateway_time_to_first_token_seconds",
            "Of streams, to their first event.",
            _REVISION,
            buckets=_SECONDS,
            registry=registry,
        )
        self._prompt = Counter("taskfleet_gateway_prompt_tokens", "Tokens of prompts, as engines count them.", _REVISION, registry=registry)
        self._completion = Counter(
            "taskfleet_gateway_completion_tokens", "Tokens of answers, as engines count them.", _REVISION, registry=registry
        )
        self._votes = Counter("taskfleet_gateway_votes", "Answers that users have judged.", (*_REVISION, "verdict"), registry=registry)
        self._corrections = Counter(
            "taskfleet_gateway_corrections", "Verdicts that came with a correction; its text is not kept.", _REVISION, registry=registry
        )
        self._in_flight = Gauge("taskfleet_gateway_in_flight_requests", "Requests under way.", _REVISION, registry=registry)
        self.errors = Counter(
            "taskfleet_gateway_errors", "Responses that the gateway itself refused or failed with.", ("code",), registry=registry
        )
        self.elsewhere = Counter(
            "taskfleet_gateway_retries", "Attempts that went on to another pod, by why.", ("reason",), registry=registry
        )
        self.closed = Counter(
            "taskfleet_gateway_connections_closed",
            "Clients' connections ended against their will: a head too slow or too large, an answer not taken, no HTTP, too many.",
            ("reason",),
            registry=registry,
        )
        self._held = Gauge("taskfleet_gateway_held_requests", "Requests that wait for a pod.", registry=registry)
        self._waits = Histogram(
            "taskfleet_gateway_held_seconds",
            "How long requests have waited for a pod, by why and how it ended: answered, refused, left (the client).",
            ("reason", "outcome"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._wake_ups = Counter(
            "taskfleet_gateway_wake_ups",
            "Requests that found no Ready pod of their task, and no other request waiting for one: what wakes a pool, however many follow.",
            ("namespace", "task_model"),
            registry=registry,
        )
        self._open = Gauge("taskfleet_gateway_open_requests", "Requests in work, refused ones included.", registry=registry)
        self._buffered = Gauge("taskfleet_gateway_buffered_body_bytes", "Bodies of requests in work.", registry=registry)
        self._supervised = Gauge(
            "taskfleet_gateway_supervised",
            "1 while the operator reads this replica's measurements and the routes are up to date; else candidates get no requests.",
            registry=registry,
        )
        self._known = Gauge("taskfleet_gateway_task_models", "TaskModels known.", registry=registry)
        self.stalls = Histogram(
            "taskfleet_gateway_loop_delay_seconds",
            "How late the event loop was.",
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2.0),
            registry=registry,
        )
        self._revisions: dict[Key, dict[str, RevisionMeter]] = {}
        self._woken: set[Key] = set()

    def observe(
        self,
        *,
        held: Callable[[], int],
        open_requests: Callable[[], int],
        buffered: Callable[[], int],
        task_models: Callable[[], int],
        supervised: Callable[[], bool],
    ) -> None:
        """Where the gauges of this replica look when they are scraped."""
        self._buffered.set_function(buffered)
        self._held.set_function(held)
        self._open.set_function(open_requests)
        self._known.set_function(task_models)
        self._supervised.set_function(supervised)

    def of(self, task: Key, revision: str) -> RevisionMeter:
        """The meter of a revision of an existing task; NO_REVISION where none was chosen."""
        revisions = self._revisions.get(task) or self._revisions.setdefault(task, {})
        return revisions.get(revision) or revisions.setdefault(revision, self._create(*task, revision))

    def woke(self, task: Key) -> None:
        """The first request of an existing task waits for the first pod."""
        self._woken.add(task)
        self._wake_ups.labels(*task).inc()

    def waited(self, reason: str, seconds: float, *, code: int, in_vain: bool) -> None:
        """A request that had to wait has ended with an HTTP status."""
        outcome = "left" if code == CLIENT_GONE else "refused" if in_vain else "answered"
        self._waits.labels(reason, outcome).observe(seconds)

    def forget_task(self, task: Key) -> None:
        """The TaskModel is gone, and its series with it."""
        if task in self._woken:
            self._woken.remove(task)
            self._wake_ups.remove(*task)
        for revision in list(self._revisions.get(task, ())):
            self.forget_revision(task, revision)
        self._revisions.pop(task, None)

    def forget_revision(self, task: Key, revision: str) -> None:
        """The TaskModelRevision is gone, and its series with it."""
        meter = self._revisions.get(task, {}).pop(revision, None)
        if meter is None:
            return
        meter.gone = True
        labels = (*task, revision)
        for metric in (self._duration, self._first_token, self._prompt, self._completion, self._corrections, self._in_flight):
            metric.remove(*labels)
        for code in meter.codes:
            self._requests.remove(*labels, str(code))
        for verdict in meter.verdicts:
            self._votes.remove(*labels, verdict.value)

    def _create(self, namespace: str, task_model: str, revision: str) -> RevisionMeter:
        labels = (namespace, task_model, revision)
        return RevisionMeter(
            duration=self._duration.labels(*labels),
            first_token=self._first_token.labels(*labels),
            prompt_tokens=self._prompt.labels(*labels),
            completion_tokens=self._completion.labels(*labels),
            in_flight=self._in_flight.labels(*labels),
            count_code=lambda code: self._requests.labels(*labels, str(code)),
            corrections=self._corrections.labels(*labels),
            count_verdict=lambda verdict: self._votes.labels(*labels, verdict.value),
        )


async def watch_loop(meter: Meter, *, interval: float = 1.0) -> None:
    """Measures for ever how late this process's event loop is: what slows every request shows here first."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        meter.stalls.observe(max(0.0, loop.time() - due))
