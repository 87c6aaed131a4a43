"""Lines that say what is being done and how long it has taken, on standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Prints one line per step with the seconds since the start of the whole."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._start:7.1f} s  {text}", file=sys.stderr, flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Announces what begins, and says how long it took when it was more than a moment."""
        self.say(f"{text} …")
        begin = time.monotonic()
        yield
        if (took := time.monotonic() - begin) >= 2:
            self.say(f"{text}: done in {took:.1f} s")
