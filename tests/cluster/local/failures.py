"""What goes wrong while a cluster starts, told so that a person can act on it."""

from pathlib import Path

TAIL_LINES = 25


class ClusterError(Exception):
    """The cluster cannot go on: what happened, what to do, and the end of the log that says more."""

    def __init__(self, what: str, *, advice: str = "", log: Path | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice
        self.log = log

    def __str__(self) -> str:
        parts = [self.what]
        if self.log is not None:
            parts.append(f"--- the last lines of {self.log}\n{tail(self.log)}\n---")
        if self.advice:
            parts.append(f"What to do: {self.advice}")
        return "\n".join(parts)


def tail(log: Path, *, lines: int = TAIL_LINES) -> str:
    """The last `lines` lines of a log, or a word about why there are none."""
    if not log.exists():
        return "(the log was never written)"
    text = log.read_text(errors="replace").rstrip()
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"
