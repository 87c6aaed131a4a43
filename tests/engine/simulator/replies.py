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
    """How one route writes its answers: chat or plain completion. `tool`: the function that the answer calls."""

    def __init__(self, *, chat: bool, identity: str, created: int, model: str, tool: str | None = None) -> None:
        self._chat = chat
        self._tool = tool
        self._identity = identity
        self._head = {"id": f"{'chatcmpl' if chat else 'cmpl'}-{identity}", "created": created, "model": model}

    def whole(self, text: str, finish_reason: str, used: dict[str, int]) -> bytes:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish_reason, "stop_reason": None}
        choice |= {"message": {"role": "assistant", **self._said(text)}} if self._chat else {"text": text}
        return orjson.dumps(
            self._head | {"object": "chat.completion" if self._chat else "text_completion", "choices": [choice], "usage": used}
        )

    def stream(
        self, tokens: list[str], finish_reason: str, used: dict[str, int], *, include_usage: bool
    ) -> tuple[bytes, list[bytes], bytes]:
        """What comes before the tokens, one chunk for each, and what comes after. Plain completions have nothing before."""
        opening = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        last = len(tokens) - 1
        chunks = [
            self._token(token, first=place == 0, finish_reason=finish_reason if place == last else None)
            for place, token in enumerate(tokens)
        ]
        ending = (self._chunk([], usage=used) if include_usage else b"") + DONE
        return self._chunk([opening]) if self._chat else b"", chunks, ending

    def _token(self, text: str, *, first: bool, finish_reason: str | None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
        if self._tool is not None:
            begun = {"id": f"chatcmpl-tool-{self._identity}", "type": "function"} if first else {}
            name = {"name": self._tool} if first else {}
            choice |= {"delta": {"tool_calls": [{"index": 0, **begun, "function": {**name, "arguments": text}}]}}
        else:
            choice |= {"delta": {"content": text}} if self._chat else {"text": text}
        return self._chunk([choice])

    def _said(self, text: str) -> dict[str, Any]:
        if self._tool is None:
            return {"content": text}
        call = {"id": f"chatcmpl-tool-{self._identity}", "type": "function", "function": {"name": self._tool, "arguments": text}}
        return {"content": None, "tool_calls": [call]}

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        content = self._head | {"object": "chat.completion.chunk" if self._chat else "text_completion", "choices": choices, **more}
        return b"data: " + orjson.dumps(content) + b"\n\n"
