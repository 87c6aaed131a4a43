"""Does an answer follow its task's output schema? Checked beside the traffic, in a small share of this process's time: schemas come from tenants."""

import time
from collections.abc import Callable

from taskfleet.evaluation.cpu_limit import TookTooLongError, cpu_limit
from taskfleet.evaluation.output_schema import OutputSchema, SchemaError
from taskfleet.evaluation.scorers import json_schema

# Of the time, for one schema; what was not used is kept, up to BURST_SECONDS of it.
SHARE = 0.02
BURST_SECONDS = 0.1
CHECK_SECONDS = 0.01
COMPILE_SECONDS = 0.05


class UncheckedError(Exception):
    """It was not found out: the schema has had its time for now, or can't be used."""


class SchemaCheck:
    """One revision's schema, compiled when it is first needed: nearly all revisions are never compared with another. `clock` is in seconds."""

    def __init__(self, text: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self._text = text
        self._clock = clock
        self._schema: OutputSchema | None = None
        self._credit = BURST_SECONDS
        self._as_of = clock()

    def follows(self, answer: str) -> bool:
        """Raises UncheckedError."""
        return json_schema(answer, self.allows) == 1

    def allows(self, value: object) -> bool:
        """The same for a JSON value. Raises UncheckedError."""
        began = self._clock()
        self._credit = min(BURST_SECONDS, self._credit + (began - self._as_of) * SHARE)
        self._as_of = began
        if self._credit <= 0:
            raise UncheckedError
        try:
            if self._schema is None:
                with cpu_limit(COMPILE_SECONDS):
                    self._schema = OutputSchema(self._text)
            with cpu_limit(CHECK_SECONDS):
                return self._schema.allows(value)
        except (TookTooLongError, SchemaError):
            raise UncheckedError from None
        finally:
            self._credit -= self._clock() - began
