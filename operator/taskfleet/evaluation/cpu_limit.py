"""Bounds what a pattern or a schema of a tenant may take: some texts of a line keep a processor busy for years.

Python's matcher looks for signals while it works, and so does the interpreter between two steps. The timer counts the process's own time, so that a crowded node ends nothing.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TookTooLongError(Exception):
    """The block has had its time."""


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Ends the block with TookTooLongError after so much processor time of this process. For the main thread only: Python takes signals there; not to be nested."""
    running = True

    def end(_signal: int, _frame: FrameType | None) -> None:
        # A signal may be taken a moment after the timer was stopped.
        if running:
            raise TookTooLongError

    before = signal.signal(signal.SIGVTALRM, end)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        yield
    finally:
        running = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
