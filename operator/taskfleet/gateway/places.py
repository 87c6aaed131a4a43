"""Room for requests: how many may be open and how much of their bodies may be kept, in all, and for one tenant.

A tenant is met twice: as the caller, and as the namespace of the TaskModel. Each may have its share and no more, so that whoever floods the gateway, or whose tasks
all hang, leaves room for the others.
"""

from collections import Counter

from taskfleet.gateway.errors import TooManyRequestsError

RETRY_AFTER = 1  # seconds
# One caller's bodies may take one part in so many of the room for bodies.
CALLER_SHARE = 4


class Places:
    """Counts. `total` and `per_tenant` in requests, `max_bytes` of bodies."""

    def __init__(self, *, total: int, per_tenant: int, max_bytes: int) -> None:
        self._total = total
        self._per_tenant = per_tenant
        self._max_bytes = max_bytes
        self._requests: Counter[str] = Counter()  # by caller and by namespace
        self._bytes: Counter[str] = Counter()  # by caller
        self.open = 0
        self.bytes = 0

    def enter(self) -> "Place":
        """A request has arrived. Never raises: refused ones count as well, and whether there is room is asked with `check`."""
        self.open += 1
        return Place(self)

    def check(self) -> None:
        """Raises TooManyRequestsError where the replica is full."""
        if self.open > self._total:
            raise TooManyRequestsError("The gateway has too many requests in work", retry_after=RETRY_AFTER)

    def take(self, tenant: str, whose: str) -> None:
        """One more of a tenant. Raises TooManyRequestsError, saying whose requests they are."""
        if self._requests[tenant] >= self._per_tenant:
            raise TooManyRequestsError(
                f"{whose} {self._per_tenant} requests in work, and no more are taken at a time", retry_after=RETRY_AFTER
            )
        self._requests[tenant] += 1

    def keep(self, caller: str, size: int) -> None:
        """So many more bytes of a caller's bodies. Raises TooManyRequestsError."""
        share = self._max_bytes // CALLER_SHARE if caller else self._max_bytes
        if self.bytes + size > self._max_bytes or self._bytes[caller] + size > share:
            raise TooManyRequestsError("The bodies of all requests in work are too long together", retry_after=RETRY_AFTER)
        self.bytes += size
        self._bytes[caller] += size

    def leave(self, caller: str, namespace: str, size: int) -> None:
        """One request is over."""
        self.open -= 1
        for tenant in (caller, namespace):
            if tenant:
                _less(self._requests, tenant, 1)
        if size:
            self.bytes -= size
            _less(self._bytes, caller, size)


class Place:
    """One request's. `leave` gives back whatever it holds."""

    __slots__ = ("_caller", "_namespace", "_places", "_size")

    def __init__(self, places: Places) -> None:
        self._places = places
        self._caller = ""
        self._namespace = ""
        self._size = 0

    def of_caller(self, name: str) -> None:
        """It is this caller's. Raises TooManyRequestsError."""
        self._places.take(key := f"caller {name}", "You have")
        self._caller = key

    def of_namespace(self, namespace: str) -> None:
        """It is for a task of this namespace. Raises TooManyRequestsError."""
        self._places.take(key := f"namespace {namespace}", f"The models of {namespace} have")
        self._namespace = key

    def grow(self, size: int) -> None:
        """So many more bytes of its body are kept. Raises TooManyRequestsError."""
        self._places.keep(self._caller, size)
        self._size += size

    def leave(self) -> None:
        """The request is over."""
        self._places.leave(self._caller, self._namespace, self._size)


def _less(counter: Counter[str], key: str, amount: int) -> None:
    # No entry is left of who is gone: their number must not grow with everybody who ever came.
    if left := counter[key] - amount:
        counter[key] = left
    else:
        del counter[key]
