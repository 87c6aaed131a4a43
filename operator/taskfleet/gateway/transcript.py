"""What a model has said, out of an answer that is complete: kept only where somebody looks at it afterwards, and never longer than `MAX_BYTES`. Never logged."""

from typing import Any

import orjson

from taskfleet.gateway.shaping import Kind

MAX_BYTES = 256 * 1024


class Transcript:
    """One answer's bytes as the pod sends them, whole or in events."""

    def __init__(self, kind: Kind, *, stream: bool) -> None:
        self._kind = kind
        self._stream = stream
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> None:
        """More of it. Beyond the bound nothing is kept."""
        self._size += len(part)
        if self._size <= MAX_BYTES:
            self._parts.append(part)
        else:
            self._parts.clear()

    def text(self) -> str | None:
        """The first choice's text; None where there is none, or too much of it."""
        try:
            body = b"".join(self._parts)
            return _of_events(self._kind, body) if self._stream else _of_answer(self._kind, orjson.loads(body))
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError):
            return None  # not what an engine answers


def _of_answer(kind: Kind, answer: dict[str, Any]) -> str | None:
    if kind is Kind.RESPONSE:
        texts = [part["text"] for item in answer["output"] if item["type"] == "message" for part in item["content"] if "text" in part]
        return "".join(texts) if texts else None
    if kind is Kind.EMBEDDING:
        return None
    choice = answer["choices"][0]
    text = choice["message"]["content"] if kind is Kind.CHAT else choice["text"]
    return text if isinstance(text, str) else None


def _of_events(kind: Kind, body: bytes) -> str | None:
    texts = []
    for line in body.splitlines():
        data = line.removeprefix(b"data:").strip()
        if not line.startswith(b"data:") or data == b"[DONE]":
            continue
        event = orjson.loads(data)
        if kind is Kind.RESPONSE:
            # The last event of a streamed response carries the whole response.
            if event.get("type") == "response.completed":
                return _of_answer(kind, event["response"])
            continue
        for choice in event["choices"]:
            if not choice.get("index"):
                text = choice.get("delta", {}).get("content") if kind is Kind.CHAT else choice.get("text")
                texts.append(text or "")
    return "".join(texts) or None
