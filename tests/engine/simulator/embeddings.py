"""vLLM's answers to /v1/embeddings: vectors made from the adapter's bytes and the text, so that a test can tell which files answered."""

import base64
import hashlib
import struct
from typing import Any

from .generation import InvalidRequestError

DIMENSIONS = 8


def vector(text: str, adapter_digest: str | None) -> list[float]:
    """Numbers that float32 holds exactly."""
    digest = hashlib.sha256(f"{adapter_digest}\0{text}".encode()).digest()
    return [byte / 256 for byte in digest[:DIMENSIONS]]


def texts(body: dict[str, Any]) -> list[str]:
    given = body.get("input")
    found = [given] if isinstance(given, str) else given
    if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
        raise InvalidRequestError("input: a text or a list of texts is required")
    return found


def answer(body: dict[str, Any], *, model: str, identity: str, created: int, adapter_digest: str | None) -> dict[str, Any]:
    found = texts(body)
    data = []
    for index, text in enumerate(found):
        numbers = vector(text, adapter_digest)
        # OpenAI's SDK asks for base64 wherever its user asks for nothing.
        packed = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *numbers)).decode()
        data.append({"index": index, "object": "embedding", "embedding": packed if body.get("encoding_format") == "base64" else numbers})
    count = sum(len(text.encode()) + 1 for text in found)
    usage = {"prompt_tokens": count, "total_tokens": count, "completion_tokens": 0}
    return {"id": f"embd-{identity}", "object": "list", "created": created, "model": model, "data": data, "usage": usage}
