"""What gateways tell the operator's leader about live traffic: a stream of lines of JSON, each with what has changed since the line before.

The stream is also the sign that somebody watches over a candidate: a gateway that has had no such stream for `UNSUPERVISED_SECONDS` sends no request to candidates.
Counts grow for as long as the replica's process lives; `replica` tells one process from the next. Latencies are counted in buckets.
"""

from bisect import bisect_left
from typing import Annotated

from pydantic import Field

from taskfleet.api.fields import Model

MEASUREMENTS_PATH = "/internal/v1/measurements"  # GET, for the operator's token; 200 application/x-ndjson, without end
# At most this often a line with changes, at least this often a line at all.
CHANGES_SECONDS = 0.25
HEARTBEAT_SECONDS = 5.0
UNSUPERVISED_SECONDS = 60.0

# Upper bounds of the latency buckets, in seconds: each a quarter above the one before, from 5 ms to over 10 minutes; one bucket more for what is above.
LATENCY_BOUNDS_SECONDS = tuple(round(0.005 * 1.25**step, 6) for step in range(54))


def latency_bucket(seconds: float) -> int:
    """The index of the bucket that counts this latency."""
    return bisect_left(LATENCY_BOUNDS_SECONDS, seconds)


class Counts(Model):
    """Answers of one revision to live requests, or to mirrored ones. Held time and cold starts are no part of a latency."""

    requests: int = 0  # that reached an engine or should have; also where the client left before the end
    errors: int = 0  # of them: the revision's fault (5xx, broken off, time-out); what the client did wrong is none
    checked: int = 0  # answers that were held against the task's outputSchema
    invalid: int = 0  # of them: don't follow it
    good: int = 0  # votes of users
    bad: int = 0
    # Of answers without error: (index of the bucket, how many). From the last request to the engine until the whole answer.
    latency: tuple[tuple[int, int], ...] = ()


class ShadowCounts(Model):
    """Mirrored requests of one candidate."""

    answers: Counts = Counts()
    skipped: int = 0  # not mirrored, because too many were under way
    compared: int = 0  # with the stable revision's answer
    agreed: int = 0  # of them


class RevisionCounts(Model):
    """One revision at one gateway replica, since its process began."""

    namespace: str
    task_model: str
    revision: str
    uid: str
    live: Counts = Counts()
    shadow: ShadowCounts | None = None


class TaskDemand(Model):
    """One task at one gateway replica: now, and since its process began. Neither mirrored requests nor those of evaluations are demand.

    A task with a request under way is told in every line, because its `busy_seconds` grow. One that was deleted is told once with nothing, and begins anew if it comes back.
    """

    namespace: str
    task_model: str
    held: int = 0  # requests that wait for a pod
    in_flight: int = 0  # requests at a pod
    # The integral of held + in_flight over time, to the millisecond: its growth by the time that it took is the mean concurrency, exactly, however short the requests.
    busy_seconds: float = 0.0
    arrivals: int = 0  # requests of callers who may ask, refused ones included (too many wait, no pod can start)
    last_request_seconds: float | None = None  # the process's age when it last had one; now, where one is under way; None: never


class MeasurementBatch(Model):
    """One line: the first has everything, each later one what has changed."""

    replica: Annotated[str, Field(max_length=64)]
    uptime_seconds: float = 0.0  # the process's age when the line was written, to the millisecond
    revisions: tuple[RevisionCounts, ...] = ()
    demand: tuple[TaskDemand, ...] = ()
