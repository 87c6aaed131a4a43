"""Watches the mounted ConfigMap. By looking: inotify does not see the kubelet's exchange of links on every file system, and one stat a second costs nothing."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from taskfleet.api.agent import DESIRED_KEY, TRUST_KEY, DesiredState, Trust
from taskfleet.logs import fields

log = logging.getLogger(__name__)

MAX_BYTES = 2 * 1024 * 1024  # a ConfigMap has at most 1 MiB

Document = TypeVar("Document", DesiredState, Trust)
_Stamp = tuple[int, int, int]


class PoolFiles:
    """Calls back with each new content. What can't be read is said once and left aside: the last good content stays in force."""

    def __init__(
        self, folder: Path, *, on_desired: Callable[[DesiredState], None], on_trust: Callable[[Trust], None], every: float
    ) -> None:
        self._folder = folder
        self._on_desired = on_desired
        self._on_trust = on_trust
        self._every = every
        self._stamps: dict[str, _Stamp | None] = {}

    async def run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(self._every)

    def look(self) -> None:
        """Reads what has changed since the last look."""
        if (text := self._changed(TRUST_KEY)) is not None:
            trust = _parsed(Trust, text, TRUST_KEY)
            if trust is not None:
                self._on_trust(trust)
        if (text := self._changed(DESIRED_KEY)) is not None:
            desired = _parsed(DesiredState, text, DESIRED_KEY)
            if desired is not None:
                self._hand_over(desired)

    def _hand_over(self, desired: DesiredState) -> None:
        try:
            self._on_desired(desired)
        except OSError as error:
            # A full disk ends nothing that is being served. The document is offered again at the next look.
            log.error("document can't be kept", extra=fields(error=str(error)))  # noqa: TRY400  (no fault of the code)
            self._stamps.pop(DESIRED_KEY, None)

    def _changed(self, name: str) -> bytes | None:
        path = self._folder / name
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if self._stamps.get(name) == stamp:
                return None
            content = path.read_bytes() if status.st_size <= MAX_BYTES else None
        except FileNotFoundError:
            self._stamps[name] = None
            return None
        except OSError as error:
            log.warning("mounted file can't be read", extra=fields(file=name, error=str(error)))
            return None
        self._stamps[name] = stamp
        if content is None:
            log.error("mounted file is too large", extra=fields(file=name, bytes=status.st_size))
        return content


def _parsed(kind: type[Document], text: bytes, name: str) -> Document | None:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]["msg"]
        log.warning("mounted file is no valid document", extra=fields(file=name, errors=error.error_count(), first=first))
        return None
