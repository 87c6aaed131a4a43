"""vLLM's replies as JSON: errors, whole answers, chunks of streams."""

from typing import Any

import orjson
from aiohttp import web

DONE = b"data: [DONE]\n\n"


def error(status: int, message: str, kind: str, param: str | None = None) -> web.Response:
    """An error as OpenAI's clients understand it."""
    content = {"error": {"message": message, "type": kind, "param": param, "code": status}}
    return web.Response(status=status, body=orjson.dumps(content), content_type="application/json")


class RefusedError(Exception):
    """The request ends with this error."""

    def __init__(self, status: int, message: str, kind: str, param: str | None = None) -> None:
        super().__init__(message)
        self.response = error(status, message, kind, param)


def dead() -> web.Response:
    return error(500, "EngineCore encountered an issue. See stack trace (above) for the root cause.", "InternalServerError")


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens + completion_tokens, "completion_tokens": completion_tokens}


class Shape:
    """How one route writes its answers: chat or plain completion."""

    def __init__(self, *, chat: bool, identity: str, created: int, model: str) -> None:
        self._chat = chat
        self._head = {"id": f"{'chatcmpl' if chat else 'cmpl'}-{identity}", "created": created, "model": model}

    def whole(self, text: str, finish_reason: str, used: dict[str, int]) -> bytes:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish_reason, "stop_reason": None}
        choice |= {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        return orjson.dumps(
            self._head | {"object": "chat.completion" if self._chat else "text_completion", "choices": [choice], "usage": used}
        )

    def opening(self) -> bytes:
        """The chunk before the first token; plain completions have none."""
        return (
            self._chunk([{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}])
            if self._chat
            else b""
        )

    def token(self, text: str, finish_reason: str | None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
        choice |= {"delta": {"content": text}} if self._chat else {"text": text}
        return self._chunk([choice])

    def closing_usage(self, used: dict[str, int]) -> bytes:
        """The last chunk, for who asked `stream_options.include_usage`."""
        return self._chunk([], usage=used)

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        content = self._head | {"object": "chat.completion.chunk" if self._chat else "text_completion", "choices": choices, **more}
        return b"data: " + orjson.dumps(content) + b"\n\n"
