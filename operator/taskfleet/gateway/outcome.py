"""What a request's end says about the revision that was picked for it.

- It counts once, for the revision that was picked, whoever answered in the end: retries stay in their cohort.
- An error is what the revision did: a 5xx of its engine, an answer that broke off, a time-out. What the client did is none, nor that no pod was there, nor that the time
  ran out after it had waited for one.
- The time of a good answer is counted from the last request to the engine: neither waiting for a pod nor its cold start is in it.
- A client that left has been a request, and nothing else.
- Requests for a pinned revision are no part of live traffic: they count as demand only.
"""

from taskfleet.gateway.call import Call
from taskfleet.gateway.errors import UnavailableError, UpstreamTimedOutError


def count(call: Call, code: int, now: float) -> None:
    """The request ended with an HTTP status, or with meter.CLIENT_GONE. `now` is monotonic."""
    cohort, asked = call.cohort, call.asked
    if cohort is None:
        return
    if asked is None or asked.revision.uid != cohort.revision.uid:
        # Somebody else has answered, or nobody.
        cohort.ended(error=call.cohort_broke, seconds=None)
        return
    error = code >= 500 and code != UnavailableError.status and not (code == UpstreamTimedOutError.status and call.held)
    cohort.ended(error=error, seconds=now - call.asked_at if code == 200 else None)
