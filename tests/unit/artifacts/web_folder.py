"""A web server that serves files, with ETags and ranges, and breaks connections when it is told to."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler


@dataclass
class WebFolder:
    """`files` by path. `breaks`: after how many bytes the next answers with a body break off. `ranges`: what was asked for of files, (path, Range)."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    token: str | None = None
    breaks: list[int] = field(default_factory=list)
    ranges: list[tuple[str, str | None]] = field(default_factory=list)
    etags: bool = True
    takes_ranges: bool = True
    takes_head: bool = True
    missing: int = 404
    headers: Mapping[str, str] = field(default_factory=dict)

    def answer(self, request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {}, b""
        if request.command == "HEAD" and not self.takes_head:
            return 405, {}, b""
        content = self.files.get(request.path)
        if content is None:
            return self.missing, {}, b""
        if request.command == "GET":
            self.ranges.append((request.path, request.headers.get("Range")))
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        headers = {**({"ETag": etag} if self.etags else {}), **self.headers}
        begin = self._begin(request, etag)
        if begin >= len(content) > 0:
            return 416, {}, b""
        body = content[begin:]
        headers |= {"Content-Length": str(len(body))}
        if begin:
            headers |= {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
        if self.breaks and request.command == "GET":
            body = body[: self.breaks.pop(0)]
        return 206 if begin else 200, headers, body

    def _begin(self, request: BaseHTTPRequestHandler, etag: str) -> int:
        asked = request.headers.get("Range")
        if asked is None or not self.takes_ranges or request.headers.get("If-Range") != etag:
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))
