"""An OpenAI-compatible endpoint that answers as a test says, on the loopback interface."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

# What was asked, as the body has it, to what is answered: a text, or a whole response.
Answer = Callable[[dict[str, Any]], "str | web.Response"]


@dataclass
class ScriptedEndpoint:
    """`asked` has the bodies, and `headers` what came with them, in order."""

    answer: Answer
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        self.paths.append(request.path)
        self.headers.append(dict(request.headers))
        said = self.answer(body)
        return completion(said) if isinstance(said, str) else said


def question(body: dict[str, Any]) -> str:
    """The last thing that was said to the model."""
    return str(body["messages"][-1]["content"]) if "messages" in body else str(body["prompt"])


def completion(text: str) -> web.Response:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "text": text, "finish_reason": "stop"}
    return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


def refusal(status: int, message: str = "no", **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.json_response({"error": {"message": message}}, status=status, headers=named)


@asynccontextmanager
async def endpoint(answer: Answer) -> AsyncIterator[ScriptedEndpoint]:
    scripted = ScriptedEndpoint(answer)
    application = web.Application()
    application.router.add_post("/{path:.*}", scripted.handle)
    async with TestServer(application) as server:
        scripted.url = str(server.make_url("/v1"))
        yield scripted


def golden_lines(*examples: tuple[str, Any]) -> bytes:
    """A golden set of inputs with what is expected."""
    return b"".join(json.dumps({"id": asked, "input": asked, "expected": expected}).encode() + b"\n" for asked, expected in examples)
