"""How replies of vLLM are sorted: those that no living engine gives on demand. What engines really answer is held by the contract tests."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from taskfleet.engines import errors
from taskfleet.engines.drivers import driver
from taskfleet.engines.vllm.client import Timeouts, VllmClient

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def engine_that(routes: dict[str, Handler | int], timeouts: Timeouts | None = None) -> AsyncIterator[VllmClient]:
    """A client of a server that answers each path by a handler, or always with a bare status."""
    application = web.Application()
    for path, answer in routes.items():
        application.router.add_route("*", path, answer if callable(answer) else _always(answer))
    async with TestServer(application) as server, aiohttp.ClientSession() as session:
        yield VllmClient(session, str(server.make_url("/")), timeouts or Timeouts())


def _always(status: int) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "so it is", "code": status}}, status=status)

    return answer


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def base_answers(_: web.Request) -> web.StreamResponse:
    return web.json_response({"model": "base", "choices": [{"text": "x"}], "usage": {"completion_tokens": 1}})


async def test_internal_error_of_a_healthy_engine_is_the_adapters_fault() -> None:
    async with engine_that({"/v1/load_lora_adapter": 500, "/health": 200}) as client:
        with pytest.raises(errors.AdapterInvalidError, match="so it is"):
            await client.load("a", "/a")


async def test_internal_error_of_a_sick_engine_is_its_end() -> None:
    async with engine_that({"/v1/load_lora_adapter": 500, "/v1/completions": 500, "/health": 503}) as client:
        with pytest.raises(errors.EngineDeadError):
            await client.load("a", "/a")
        with pytest.raises(errors.EngineDeadError):
            await client.probe("a")


@pytest.mark.parametrize("status", [429, 503])
async def test_overload_is_worth_another_try(status: int) -> None:
    async with engine_that({"/v1/load_lora_adapter": status, "/health": 200}) as client:
        with pytest.raises(errors.EngineBusyError):
            await client.load("a", "/a")


async def test_engine_without_the_load_route_is_refused_for_good() -> None:
    async with engine_that({"/health": 200}) as client:
        with pytest.raises(errors.RequestRefusedError):
            await client.load("a", "/a")
        with pytest.raises(errors.RequestRefusedError):
            await client.unload("a")


async def test_lost_reply_leaves_the_outcome_unknown() -> None:
    async with engine_that({"/v1/load_lora_adapter": hang_up, "/v1/unload_lora_adapter": hang_up}) as client:
        with pytest.raises(errors.OutcomeUnknownError):
            await client.load("a", "/a")
        with pytest.raises(errors.OutcomeUnknownError):
            await client.unload("a")


async def test_name_that_vanishes_between_two_looks_settles_nothing() -> None:
    async def loaded(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "'a' has already been loaded."}}, status=400)

    async def nothing(_: web.Request) -> web.StreamResponse:
        return web.json_response({"data": []})

    async with engine_that({"/v1/load_lora_adapter": loaded, "/v1/models": nothing}) as client:
        with pytest.raises(errors.OutcomeUnknownError):
            await client.load("a", "/a")


async def test_answer_of_another_model_proves_nothing() -> None:
    async with engine_that({"/v1/completions": base_answers}) as client:
        with pytest.raises(errors.WrongModelError, match="base"):
            await client.probe("a")
        await client.probe("base")


async def test_redirect_is_not_followed() -> None:
    async def elsewhere(_: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("/elsewhere")

    async with engine_that({"/v1/completions": elsewhere, "/elsewhere": base_answers}) as client:
        with pytest.raises(errors.RequestRefusedError):
            await client.probe("base")


async def test_nobody_there_is_unreachable_and_unwell() -> None:
    async with aiohttp.ClientSession() as session:
        client = VllmClient(session, "http://127.0.0.1:1")
        assert not await client.health()
        with pytest.raises(errors.EngineUnreachableError):
            await client.models()


def test_every_error_has_a_reason_of_its_own() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.EngineError)]
    assert len({one.reason for one in classes}) == len(classes)


def test_unknown_engine_has_no_driver() -> None:
    assert driver("vLLM").client is VllmClient
    with pytest.raises(KeyError):
        driver("llama.cpp")
