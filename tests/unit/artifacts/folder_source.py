"""A source that lists the files of a local folder, with a connection that breaks when it is told to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from taskfleet.artifacts.errors import ArtifactNotFound, SourceUnavailable
from taskfleet.artifacts.listing import Inquiry, Listing, RemoteFile, Stream

PIECE = 1024


@dataclass
class FolderSource:
    """`<root>/<version>/` holds the files of a version. `breaks` says after how many bytes the next connections break; `opened` what was asked for: (name, offset)."""

    root: Path
    breaks: list[int] = field(default_factory=list)
    opened: list[tuple[str, int]] = field(default_factory=list)
    resumes: bool = True
    hashes: dict[str, str] = field(default_factory=dict)

    def list(self, inquiry: Inquiry) -> Listing:
        folder = self.root / inquiry.order.version
        if not folder.is_dir():
            raise ArtifactNotFound(f"{inquiry.order.source} has no {inquiry.order.version}")
        return Listing(tuple(self._file(path) for path in folder.iterdir()))

    def _file(self, path: Path) -> RemoteFile:
        return RemoteFile(name=path.name, open=partial(self._open, path), size=path.stat().st_size, sha256=self.hashes.get(path.name))

    @contextmanager
    def _open(self, path: Path, offset: int, validator: str | None) -> Iterator[Stream]:
        self.opened.append((path.name, offset))
        known = str(path.stat().st_mtime_ns)
        begins_at = offset if self.resumes and validator == known else 0
        content = path.read_bytes()
        yield Stream(begins_at, len(content), known, self._pieces(content[begins_at:]))

    def _pieces(self, content: bytes) -> Iterator[bytes]:
        left = self.breaks.pop(0) if self.breaks else None
        for start in range(0, len(content), PIECE):
            if left is not None and start >= left:
                raise SourceUnavailable("the connection broke")
            yield content[start : start + PIECE]
