"""Files of HTTP servers: opened from an offset on, where the server still has the same bytes."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from taskfleet.artifacts.errors import (
    ArtifactError,
    ArtifactInvalid,
    ArtifactNotFound,
    CredentialsMissing,
    SourceUnavailable,
)
from taskfleet.artifacts.listing import Inquiry, RemoteFile, Stream
from taskfleet.artifacts.transport import Answer, Transport

# The headers that prove who asks for a URL, at this moment: they are read from the Secret, or signed, for each request.
Credentials = Callable[[str], Mapping[str, str]]

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
_NO_LIMIT = 2**63


def nobody(_url: str) -> Mapping[str, str]:
    """Asks without credentials."""
    return {}


def http_file(
    inquiry: Inquiry, *, name: str, url: str, credentials: Credentials = nobody, size: int | None = None, sha256: str | None = None
) -> RemoteFile:
    """The file at a URL, under the name that it is to have."""
    return RemoteFile(name=name, open=_HttpFile(inquiry, name, url, credentials).open, size=size, sha256=sha256)


def refusal(status: int, *, host: object, what: str, key: str | None) -> ArtifactError:
    """What an answer other than a success says of `what` was asked for; `key` is the credentialsKey that was used, if any was."""
    if status in {401, 403}:
        if key is None:
            return CredentialsMissing(f"{host} answers HTTP {status} for {what}: set credentialsKey if it wants credentials")
        return CredentialsMissing(
            f"{host} answers HTTP {status} for {what} with the credentials that {key!r} of the Secret taskfleet-credentials holds"
        )
    if status in {404, 410}:
        return ArtifactNotFound(f"{host} has no {what}")
    return SourceUnavailable(f"{host} answered HTTP {status} for {what}")


@dataclass(frozen=True, slots=True)
class _HttpFile:
    inquiry: Inquiry
    name: str
    url: str
    credentials: Credentials

    @contextmanager
    def open(self, offset: int, validator: str | None) -> Iterator[Stream]:
        with Transport(self.inquiry.access, self.inquiry.time) as transport, self._asked(transport, offset, validator) as answer:
            if answer.status_code not in {200, 206}:
                raise refusal(
                    answer.status_code,
                    host=answer.origin,
                    what=f"file {self.name} of version {self.inquiry.order.version}",
                    key=self.inquiry.order.credentials_key,
                )
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise ArtifactInvalid(f"{answer.origin} sends file {self.name} compressed, though it was asked not to")
            yield stream_of(answer, self.name)

    def _asked(self, transport: Transport, offset: int, validator: str | None) -> Answer:
        # If-Range: the rest of these bytes, or all of other ones (RFC 9110, 13.1.5).
        headers = {"Range": f"bytes={offset}-", "If-Range": validator} if offset and validator else {}
        answer = ranged(lambda headers: transport.get(self.url, headers=headers, credentials=self.credentials(self.url)), headers)
        if answer.status_code != 206 or answer.headers.get("ETag") == validator:
            return answer
        # A server that doesn't know If-Range, object stores among them, sends the rest of whatever it has now: other bytes after ours would make a file that nobody has.
        answer.close()
        return transport.get(self.url, credentials=self.credentials(self.url))


def ranged(ask: Callable[[Mapping[str, str]], Answer], headers: Mapping[str, str]) -> Answer:
    """The answer to a question for the rest of a file, or for all of it, where there is no rest: a server that doesn't know If-Range, and has a shorter file now."""
    answer = ask(headers)
    if answer.status_code != 416 or not headers:
        return answer
    answer.close()
    return ask({})


def stream_of(answer: Answer, name: str) -> Stream:
    """A file as an answer with status 200 or 206 gives it."""
    etag = answer.headers.get("ETag", "")
    begins_at, size = 0, _number(answer.headers.get("Content-Length", ""))
    if answer.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if match is None:
            raise SourceUnavailable(f"{answer.origin} sends a part of file {name} and does not say which")
        begins_at, size = int(match[1]), _number(match[2])
    # A weak one (W/"...") may stand for other bytes of the same meaning.
    strong = etag if re.fullmatch(r'"[\x21\x23-\x7e]{1,200}"', etag) else None
    return Stream(begins_at, size, strong, answer.pieces(limit=_NO_LIMIT))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
