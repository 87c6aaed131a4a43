"""A local server that speaks the Hugging Face hub's API: models with commits, branches, tags, trees in pages, large files at another host, gated repositories.

It is held against the hub's own client (`huggingface_hub`), so that what it speaks is the hub's language. Tests hold our client against it.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_correcthorsebatterystaple"
PAGE = 3  # entries of a tree in one answer; the hub's own pages have a thousand


@dataclass
class Repository:
    """Commits by name, each a map of paths to bytes; branches and tags by name. A large path is one whose bytes another host hands out."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def commit(self, files: Mapping[str, bytes], *, branch: str = "main") -> str:
        """Makes a commit the head of a branch; returns its name."""
        text = json.dumps([branch, len(self.commits), sorted((name, hashlib.sha256(body).hexdigest()) for name, body in files.items())])
        name = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.commits[name] = dict(files)
        self.refs[branch] = name
        return name

    def resolved(self, revision: str) -> str | None:
        """The commit of a branch, tag or commit."""
        return self.refs.get(revision) or (revision if revision in self.commits else None)


@dataclass
class HubServer:
    """`asked` are the requests: (host's role, path with query, Authorization). `break_after` bytes a large file's connection is broken, that many times in `breaks`."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    next_elsewhere: str | None = None  # where the next page is said to be, instead of here
    token: str = TOKEN
    hub: str = ""
    content: str = ""  # the host of large files
    ports: tuple[int, int] = (0, 0)  # of both

    @property
    def endpoint(self) -> str:
        return f"http://{self.hub}"

    def repository(self, name: str, *, gated: bool = False) -> Repository:
        return self.repositories.setdefault(name, Repository(gated=gated))


@contextmanager
def running_hub(address: str = "127.0.0.1", *, names: tuple[str, str] | None = None) -> Iterator[HubServer]:
    """The hub and the host of its large files, two servers. `names` are how clients reach them, where that is not the address."""
    state = HubServer()
    servers = [ThreadingHTTPServer((address, 0), _handler(state, role)) for role in ("hub", "content")]
    state.hub, state.content = names or (f"{address}:{servers[0].server_port}", f"{address}:{servers[1].server_port}")
    state.ports = (servers[0].server_port, servers[1].server_port)
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield state
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _handler(state: HubServer, role: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

        def handle(self) -> None:
            # Clients leave when they have heard enough.
            with suppress(ConnectionError):
                super().handle()

        def _answer(self) -> None:
            state.asked.append((role, self.path, self.headers.get("Authorization")))
            reply = _content(state, self.path, self.headers) if role == "content" else _hub(state, self.path, self.headers)
            body = b"" if self.command == "HEAD" else reply.body
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if role == "content" and self.command == "GET" and state.breaks:
                self.wfile.write(body[: state.breaks.pop(0)])
                self.close_connection = True
                return
            self.wfile.write(body)

    return Handler


@dataclass
class _Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def _error(status: int, code: str, message: str) -> _Reply:
    return _Reply(
        status,
        json.dumps({"error": message}).encode(),
        {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"},
    )


def _hub(state: HubServer, target: str, headers: Any) -> _Reply:
    parts = urlsplit(target)
    words = [unquote(word) for word in parts.path.strip("/").split("/")]
    is_api = words[:2] == ["api", "models"]
    words = words[2:] if is_api else words
    name, authorization = "/".join(words[:2]), headers.get("Authorization")
    repository = state.repositories.get(name)
    if authorization not in {None, f"Bearer {state.token}"}:
        return _error(401, "", "Invalid credentials in Authorization header")
    if repository is None or len(words) < 4:
        # The hub hides what is not there from whoever has not signed in.
        return _error(404 if authorization else 401, "RepoNotFound", "Repository not found")
    revision, path = words[3], "/".join(words[4:])
    commit = repository.resolved(revision)
    if commit is None:
        return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    if not is_api:
        return _resolve(state, repository, commit, path, headers)
    if words[2] == "revision":
        return _json({"_id": "1", "id": name, "sha": commit, "gated": repository.gated, "private": False, "siblings": []})
    return _tree(state, repository.commits[commit], path, parts.path, parse_qs(parts.query))


def _tree(state: HubServer, files: Mapping[str, bytes], folder: str, path: str, query: Mapping[str, list[str]]) -> _Reply:
    recursive = query.get("recursive", ["false"])[0].lower() == "true"
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, Any]] = {}
    for name, body in sorted(files.items()):
        if not name.startswith(prefix):
            continue
        first, slash, _ = name.removeprefix(prefix).partition("/")
        if slash:
            entries[prefix + first] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": prefix + first}
        if not slash or recursive:
            entries[name] = _entry(name, body)
    if not entries:
        return _error(404, "EntryNotFound", f'"{folder}" does not exist')
    begin = int(query.get("cursor", ["0"])[0])
    page = list(entries.values())[begin : begin + PAGE]
    reply = _json(page)
    if begin + PAGE < len(entries):
        address = state.next_elsewhere or f"{state.endpoint}{path}"
        reply.headers["Link"] = f'<{address}?recursive={str(recursive).lower()}&cursor={begin + PAGE}>; rel="next"'
    return reply


def _entry(name: str, body: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
    entry: dict[str, Any] = {"type": "file", "oid": blob, "size": len(body), "path": name}
    if _is_large(name):
        entry["lfs"] = {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 134}
    return entry


def _is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


def _resolve(state: HubServer, repository: Repository, commit: str, path: str, headers: Any) -> _Reply:
    if repository.gated and headers.get("Authorization") is None:
        return _error(401, "GatedRepo", "Access to this model is restricted. You must have access to it and be authenticated to access it.")
    body = repository.commits[commit].get(path)
    if body is None:
        return _error(404, "EntryNotFound", "Entry not found")
    sha256 = hashlib.sha256(body).hexdigest()
    if not _is_large(path):
        return _ranged(state, body, headers, {"ETag": f'"{_entry(path, body)["oid"]}"', "X-Repo-Commit": commit})
    # Kept for the other host, which knows bytes only.
    _LARGE[sha256] = body
    return _Reply(
        302,
        b"",
        {
            "Location": f"http://{state.content}/{sha256}?Signature=secret-of-the-url",
            "X-Repo-Commit": commit,
            "X-Linked-Size": str(len(body)),
            "X-Linked-Etag": f'"{sha256}"',
        },
    )


_LARGE: dict[str, bytes] = {}


def _content(state: HubServer, target: str, headers: Any) -> _Reply:
    # As stores behind signed addresses do: whoever sends other credentials beside the signature is refused.
    if headers.get("Authorization"):
        return _Reply(400, b"Only one auth mechanism allowed")
    sha256 = urlsplit(target).path.strip("/")
    body = _LARGE.get(sha256)
    return _Reply(404) if body is None else _ranged(state, body, headers, {"ETag": f'"{sha256}"'})


def _ranged(state: HubServer, body: bytes, headers: Any, more: Mapping[str, str]) -> _Reply:
    wanted = headers.get("Range", "")
    if wanted:
        state.ranges.append(wanted)
    if not wanted.startswith("bytes=") or headers.get("If-Range", more["ETag"]) != more["ETag"]:
        return _Reply(200, body, {**more, "Accept-Ranges": "bytes"})
    begin = int(wanted.removeprefix("bytes=").partition("-")[0])
    if begin >= len(body):
        return _Reply(416, b"", {"Content-Range": f"bytes */{len(body)}"})
    return _Reply(206, body[begin:], {**more, "Content-Range": f"bytes {begin}-{len(body) - 1}/{len(body)}"})


def _json(content: Any) -> _Reply:
    return _Reply(200, json.dumps(content).encode(), {"Content-Type": "application/json; charset=utf-8"})
