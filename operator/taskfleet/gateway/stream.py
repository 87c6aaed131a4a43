"""Server-sent events on their way from a pod to a client: the model's name is changed back, the usage is taken note of and hidden where nobody asked for it.

Works on whole events and on their bytes: parsing each chunk's JSON would cost more than everything else that the gateway does for it. The bytes that are looked for can't
stand inside a JSON string, whose quotation marks are escaped.
"""

import re
from dataclasses import dataclass

import orjson

MAX_EVENT_BYTES = 16 * 1024 * 1024
# A longer answer is not parsed as a whole.
MAX_PARSED_BYTES = 1024 * 1024
MAX_USAGE_BYTES = 4096

_USAGE_OBJECT = re.compile(rb'"usage"\s*:\s*\{')


class EventTooLongError(Exception):
    """A pod sent an event without end."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer."""

    prompt_tokens: int
    completion_tokens: int


def usage_of(answer: object) -> Usage | None:
    """The usage that an answer or chunk states."""
    if not isinstance(answer, dict):
        return None
    # The last event of a streamed response carries the whole response.
    whole = answer.get("response")
    usage = (whole if isinstance(whole, dict) else answer).get("usage")
    if not isinstance(usage, dict):
        return None
    # The newer names are those of /v1/responses.
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    completion = usage.get("completion_tokens", usage.get("output_tokens"))
    return Usage(_count(prompt), _count(completion))


def usage_within(body: bytes) -> Usage | None:
    """The usage that a whole answer states."""
    try:
        if len(body) <= MAX_PARSED_BYTES:
            return usage_of(orjson.loads(body))
        # A long list of numbers takes ten times its text in memory, and nothing of it is needed here.
        stated = _USAGE_OBJECT.match(body, max(0, body.rfind(b'"usage"')))
        return usage_of({"usage": _object(body[stated.end() - 1 : stated.end() + MAX_USAGE_BYTES])}) if stated else None
    except orjson.JSONDecodeError:
        return None


def _object(text: bytes) -> object:
    """The JSON object that `text` begins with. Raises JSONDecodeError."""
    end = text.find(b"}") + 1
    # Details stand in objects of their own within it.
    while text.count(b"{", 0, end) > text.count(b"}", 0, end) and text.find(b"}", end) >= 0:
        end = text.find(b"}", end) + 1
    return orjson.loads(text[:end])


def _count(tokens: object) -> int:
    # A pod's word is not trusted: a counter that is asked to count down raises.
    return max(0, tokens) if isinstance(tokens, int) else 0


class ModelRewriter:
    """Puts the name that the client used in the place of the engine's."""

    def __init__(self, *, engine_model: str, public_model: str) -> None:
        public = orjson.dumps(public_model)
        # Both spellings of JSON's white space that engines use; engine names need no escapes.
        self._pairs = tuple((f'"model":{space}"{engine_model}"'.encode(), b'"model":' + space.encode() + public) for space in ("", " "))

    def rewrite(self, data: bytes) -> bytes:
        """`data` with every field `model` that has the engine's name changed."""
        for old, new in self._pairs:
            if old in data:
                data = data.replace(old, new)
        return data


class EventRelay:
    """One stream. Feed it what the pod sends; send on what it returns."""

    def __init__(self, *, engine_model: str, public_model: str, hide_usage: bool) -> None:
        self._rewriter = ModelRewriter(engine_model=engine_model, public_model=public_model)
        self._hide_usage = hide_usage
        self._rest = b""
        self.usage: Usage | None = None

    @property
    def pending(self) -> int:
        """Bytes of an event that is not complete yet."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> bytes:
        """The events that `chunk` completes, as the client gets them; may be empty. Raises EventTooLongError."""
        data = self._rest + chunk if self._rest else chunk
        if b"\r\n" in data:
            data = data.replace(b"\r\n", b"\n")
        end = data.rfind(b"\n\n") + 2
        if end == 1:
            if len(data) > MAX_EVENT_BYTES:
                raise EventTooLongError
            self._rest = data
            return b""
        self._rest = data[end:]
        events = data[:end]
        if b'"usage"' in events and _USAGE_OBJECT.search(events):
            events = self._note_usage(events)
        return self._rewriter.rewrite(events)

    def finish(self) -> bytes:
        """What is left when the pod has ended the stream: an event without its blank line."""
        rest, self._rest = self._rest, b""
        return self._rewriter.rewrite(rest)

    def _note_usage(self, events: bytes) -> bytes:
        kept = []
        for event in events.split(b"\n\n")[:-1]:
            chunk = _payload(event)
            if usage := usage_of(chunk):
                self.usage = usage
                # Only the chunk that OpenAI's API adds for the usage has no choices.
                if self._hide_usage and not chunk.get("choices"):
                    continue
            kept.append(event + b"\n\n")
        return b"".join(kept)


def _payload(event: bytes) -> dict[str, object]:
    lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
    try:
        payload = orjson.loads(b"\n".join(lines))
    except orjson.JSONDecodeError:
        return {}
    return payload if isinstance(payload, dict) else {}
