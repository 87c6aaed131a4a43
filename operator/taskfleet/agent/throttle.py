"""So many bytes a second and no more. No I/O, no clock."""


class Throttle:
    """Shared by all who send. Turns are given in the order in which they are asked for."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._free = 0.0

    def wait(self, size: int, *, now: float) -> float:
        """Seconds until it is the turn of `size` bytes more; they count as sent from then on."""
        turn = max(self._free, now)
        self._free = turn + size / self._rate
        return turn - now
