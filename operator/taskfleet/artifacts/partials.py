"""Beginnings of files, kept when a download is given up: the next one goes on there, also after a restart of this process.

    <folder>/<SHA-256 of the key>          the bytes
    <folder>/<SHA-256 of the key>.json     how many of them are safe on the disk, and what names them at the source

Only what the second file says counts: after a loss of power the first may have its size and not its bytes.
"""

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

KEEP_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Saved:
    """`length` bytes are there; `validator` names them at the source."""

    length: int
    validator: str


class Partial:
    """One file's beginning, used by one download at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path.with_suffix(".json")

    def saved(self) -> Saved | None:
        """What can be gone on with."""
        try:
            content = json.loads(self._note.read_bytes())
            saved = Saved(content["length"], content["validator"])
            return saved if 0 < saved.length <= self.path.stat().st_size and isinstance(saved.validator, str) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, file: BinaryIO, validator: str | None) -> None:
        """Makes what is in the file so far count. `file` is open on `path`."""
        if validator is None:
            self._note.unlink(missing_ok=True)
            return
        file.flush()
        os.fsync(file.fileno())
        beside = self._note.with_suffix(".new")
        beside.write_text(json.dumps({"length": file.tell(), "validator": validator}))
        beside.replace(self._note)

    def discard(self) -> None:
        """There is nothing to go on with."""
        for path in (self._note, self._note.with_suffix(".new"), self.path):
            path.unlink(missing_ok=True)


class Partials:
    """All of a pod's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    def prepare(self) -> None:
        """Makes the folder, and removes what nobody has come back for."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._remove(before=time.time() - KEEP_SECONDS)

    def clear(self) -> None:
        """Removes all that no download is using now: the room is needed."""
        self._remove(before=float("inf"))

    @contextmanager
    def of(self, *key: str) -> Iterator[Partial | None]:
        """The beginning of the file with this key; None while another download has it."""
        name = hashlib.sha256("\0".join(key).encode()).hexdigest()
        with self._lock:
            is_free = name not in self._busy
            self._busy.add(name)
        try:
            yield Partial(self._folder / name) if is_free else None
        finally:
            if is_free:
                with self._lock:
                    self._busy.discard(name)

    def _remove(self, *, before: float) -> None:
        with self._lock:
            for path in self._folder.glob("*"):
                with contextlib.suppress(FileNotFoundError):
                    if path.stem not in self._busy and path.stat().st_mtime < before:
                        path.unlink()
