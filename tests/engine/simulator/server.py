"""The routes of vLLM's server, and `/sim/faults` for trouble on demand."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NoReturn, Protocol

import orjson
from aiohttp import web

from . import embeddings, replies
from .core import Core, CoreDeadError, Listed, NameListedError
from .generation import InvalidRequestError, Question, answer, read_chat, read_completion, read_response
from .metrics import Metrics
from .replies import RefusedError
from .responses import ResponseShape
from .weights import Adapter, AdapterBrokenError, AdapterMissingError

VERSION = "0.32.0"


class Writes(Protocol):
    """One route's way to write an answer."""

    def whole(self, text: str, finish_reason: str, used: dict[str, int]) -> bytes: ...

    def stream(
        self, tokens: list[str], finish_reason: str, used: dict[str, int], *, include_usage: bool
    ) -> tuple[bytes, list[bytes], bytes]: ...


class Server:
    """One engine's HTTP side."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._name = core.options.served_model_name
        self._metrics = Metrics(self._name)
        self._numbers = itertools.count(1)
        self._started = int(time.time())
        self._load_replies_to_lose = 0
        self._sick: dict[str, tuple[int, float]] = {}  # by name of the adapter: HTTP status (0: answers), seconds of delay

    def application(self) -> web.Application:
        application = web.Application(client_max_size=64 * 2**20, middlewares=[_refuse])
        application.add_routes(
            [
                web.get("/health", self.health),
                web.get("/version", self.version),
                web.get("/metrics", self.metrics),
                web.get("/v1/models", self.models),
                web.post("/sim/faults", self.faults),
            ]
        )
        # The routes of what the model can do, and no others.
        if self._core.options.pooling:
            application.add_routes([web.post("/v1/embeddings", self.embedding)])
        else:
            generating = {"/v1/chat/completions": self.chat, "/v1/completions": self.completion, "/v1/responses": self.response}
            application.add_routes([web.post(path, handler) for path, handler in generating.items()])
        if self._core.options.enable_lora:
            application.add_routes([web.post("/v1/load_lora_adapter", self.load), web.post("/v1/unload_lora_adapter", self.unload)])
        return application

    async def health(self, _: web.Request) -> web.Response:
        return web.Response(status=503 if self._core.dead.is_set() else 200)

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": VERSION})

    async def metrics(self, _: web.Request) -> web.Response:
        slots = self._core.slots
        return web.Response(text=self._metrics.text(running=slots.running, waiting=slots.waiting))

    async def models(self, _: web.Request) -> web.Response:
        card = {"object": "model", "created": self._started, "owned_by": "vllm"}
        base = card | {"id": self._name, "root": str(self._core.options.model), "parent": None, "max_model_len": self._core.max_model_len}
        adapters = [
            card | {"id": one.name, "root": one.path, "parent": self._name, "max_model_len": None} for one in self._core.listed.values()
        ]
        return web.json_response({"object": "list", "data": [base, *adapters]})

    async def load(self, request: web.Request) -> web.Response:
        body = await _body(request)
        name, path = _text(body, "lora_name"), _text(body, "lora_path")
        if not name or not path:
            raise RefusedError(400, "Both 'lora_name' and 'lora_path' must be provided.", "InvalidUserInput")
        try:
            # Generation ends with its client, a load does not: who hangs up meanwhile finds it done later.
            await asyncio.shield(self._core.load(name, path))
        except NameListedError as refused:
            raise RefusedError(400, str(refused), "InvalidUserInput") from refused
        except AdapterMissingError as missing:
            raise RefusedError(404, f"Loading lora {name} failed: No adapter found for {path}", "NotFoundError") from missing
        except AdapterBrokenError as broken:
            raise RefusedError(500, str(broken), "InternalServerError") from broken
        if self._load_replies_to_lose:
            self._load_replies_to_lose -= 1
            _hang_up(request)
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, request: web.Request) -> web.Response:
        name = _text(await _body(request), "lora_name")
        if not name:
            raise RefusedError(400, "'lora_name' needs to be provided to unload a LoRA adapter.", "InvalidUserInput")
        if not self._core.unload(name):
            raise RefusedError(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    async def chat(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, partial(read_chat, tool_parser=self._core.options.tool_parser), self._chat_shape)

    async def completion(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, read_completion, self._completion_shape)

    async def response(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, partial(read_response, tool_parser=self._core.options.tool_parser), self._response_shape)

    async def embedding(self, request: web.Request) -> web.Response:
        body = await _body(request)
        listed = self._listed(body.get("model"))
        async with self._core.slots.take(listed.name if listed else None):
            adapter = await self._core.adapter(listed) if listed else None
            try:
                content = embeddings.answer(
                    body,
                    model=listed.name if listed else self._name,
                    identity=self._identity(request),
                    created=int(time.time()),
                    adapter_digest=adapter.digest if adapter else None,
                )
            except InvalidRequestError as error:
                raise RefusedError(400, str(error), "BadRequestError") from error
        return web.json_response(content)

    def _identity(self, request: web.Request) -> str:
        """What an answer's id ends with: the request's own id where it has one."""
        return request.headers.get("X-Request-Id") or f"{next(self._numbers):016x}"

    def _chat_shape(self, request: web.Request, question: Question, model: str) -> Writes:
        return replies.Shape(chat=True, identity=self._identity(request), created=int(time.time()), model=model, tool=question.tool)

    def _completion_shape(self, request: web.Request, _question: Question, model: str) -> Writes:
        return replies.Shape(chat=False, identity=self._identity(request), created=int(time.time()), model=model)

    def _response_shape(self, _request: web.Request, question: Question, model: str) -> Writes:
        number = f"{next(self._numbers):016x}"
        return ResponseShape(identity=number, created=int(time.time()), model=model, asked=question.body, tool=question.tool)

    async def faults(self, request: web.Request) -> web.Response:
        """`forget`: adapters to drop without a word; `sick`: code and seconds of delay of each adapter that fails or is slow from now on; `lose_load_replies`: how many of the
        next loads get no reply; `die`: end the core.
        """
        body = await _body(request)
        self._sick |= {
            name: (int(wish.get("code", 0)), float(wish.get("delay_seconds", 0.0))) for name, wish in body.get("sick", {}).items()
        }
        for name in body.get("forget", []):
            self._core.unload(name)
        self._load_replies_to_lose = int(body.get("lose_load_replies", self._load_replies_to_lose))
        if body.get("die"):
            self._core.die("asked to")
        return web.json_response({})

    async def _generate(
        self, request: web.Request, read: Callable[[dict[str, Any]], Question], shape: Callable[[web.Request, Question, str], Writes]
    ) -> web.StreamResponse:
        arrived = time.monotonic()
        try:
            question = read(await _body(request))
        except InvalidRequestError as error:
            raise RefusedError(400, str(error), "BadRequestError") from error
        listed = self._listed(question.model)
        if question.prompt_tokens + (question.max_tokens or 1) > self._core.max_model_len:
            raise RefusedError(
                400, f"This model's maximum context length is {self._core.max_model_len} tokens.", "BadRequestError", "input_tokens"
            )
        if question.faults.die:
            self._core.die("a request did it")
        await self._core.pause(question.faults.delay_seconds)
        code, delay = self._sick.get(listed.name, (0, 0.0)) if listed else (0, 0.0)
        await self._core.pause(delay)
        if question.faults.code or code:
            raise RefusedError(question.faults.code or code, "asked for by a test", "Simulated")
        async with self._core.slots.take(listed.name if listed else None):
            self._metrics.queued.observe(time.monotonic() - arrived)
            return await self._answer(request, question, listed, arrived, shape)

    def _listed(self, model: str | None) -> Listed | None:
        """The adapter that a request means; None is the base, which vLLM also takes a request for that names no model."""
        if model in (None, self._name):
            return None
        if model not in self._core.listed:
            raise RefusedError(404, f"The model `{model}` does not exist. Valid aliases: {self._name}.", "NotFoundError", "model")
        return self._core.listed[model]

    async def _answer(
        self,
        request: web.Request,
        question: Question,
        listed: Listed | None,
        arrived: float,
        write: Callable[[web.Request, Question, str], Writes],
    ) -> web.StreamResponse:
        options = self._core.options
        adapter: Adapter | None = await self._core.adapter(listed) if listed else None
        tokens = answer(question, adapter.digest if adapter else None)
        cut = tokens if question.max_tokens is None else tokens[: question.max_tokens]
        finish_reason = "length" if len(cut) < len(tokens) else "tool_calls" if question.body.get("tool_choice") == "required" else "stop"
        used = replies.usage(question.prompt_tokens, len(cut))
        shape = write(request, question, listed.name if listed else self._name)
        pace = question.faults.token_seconds or options.token_seconds
        response: web.StreamResponse
        await self._core.pause(options.first_token_seconds)
        self._metrics.first_token.observe(time.monotonic() - arrived)
        if question.stream:
            opening, chunks, ending = shape.stream(cut, finish_reason, used, include_usage=question.include_usage)
            response = await self._stream(request, opening, chunks, ending, pace=pace, break_after=question.faults.break_after)
        else:
            await self._core.pause(pace * (len(cut) - 1))
            response = web.Response(body=shape.whole("".join(cut), finish_reason, used), content_type="application/json")
        self._metrics.prompt_tokens += used["prompt_tokens"]
        self._metrics.generation_tokens += used["completion_tokens"]
        self._metrics.finished[finish_reason] += 1
        self._metrics.whole.observe(time.monotonic() - arrived)
        return response

    async def _stream(
        self, request: web.Request, opening: bytes, chunks: list[bytes], ending: bytes, *, pace: float, break_after: int
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        if opening:
            await response.write(opening)
        for place, chunk in enumerate(chunks):
            if place == break_after:
                _hang_up(request)
            if place:
                try:
                    await self._core.pause(pace)
                except CoreDeadError:
                    _hang_up(request)  # the status has long been sent
            await response.write(chunk)
        await response.write(ending)
        return response


@web.middleware
async def _refuse(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    try:
        return await handler(request)
    except RefusedError as refused:
        return refused.response
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
        # The web framework's own errors, in vLLM's shape.
        return replies.error(error.status, error.reason, error.reason)
    except CoreDeadError:
        return replies.dead()


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        content = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, f"JSON decode error: {error}", "Bad Request") from error
    if not isinstance(content, dict):
        raise RefusedError(400, "the body is no JSON object", "Bad Request")
    return content


def _text(body: dict[str, Any], field: str) -> str:
    if not isinstance(value := body.get(field), str):
        raise RefusedError(400, f"{field}: a text is required", "Bad Request", field)
    return value


def _hang_up(request: web.Request) -> NoReturn:
    """Close the connection in mid-reply, as a dying process does."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("hung up on purpose")
