"""Kopf's own readers get along with whatever the API server sends, through a session of ours."""

import json

import kopf
from aiohttp import web
from aiohttp.test_utils import TestServer

from taskfleet.controller.kopf_session import session

NESTED = b'{"a":' * 9_000 + b"1" + b"}" * 9_000
ITEM = b'{"metadata": {"name": "a", "managedFields": [' + NESTED + b']}, "spec": {"text": "[{"}}'


async def _list(_: web.Request) -> web.Response:
    return web.Response(body=b'{"items": [' + ITEM + b', {"metadata": {"name": "b"}}]}', content_type="application/json")


async def _watch(request: web.Request) -> web.StreamResponse:
    reply = web.StreamResponse()
    await reply.prepare(request)
    text = b'{"type": "ADDED", "object": ' + ITEM + b'}\n{"type": "ADDED", "object": {"metadata": {"name": "b"}}}\n{"type": "BOOKMARK"}'
    for begin in range(0, len(text), 7_001):
        await reply.write(text[begin : begin + 7_001])
    return reply


async def test_lists_and_watches_are_read_whole() -> None:
    app = web.Application()
    app.router.add_get("/list", _list)
    app.router.add_get("/watch", _watch)
    async with TestServer(app) as server:
        found = session(kopf.ConnectionInfo(server=str(server.make_url("/")))).aiohttp_session
        async with found:
            async with found.get(server.make_url("/list")) as response:
                items = (await response.json())["items"]
            async with found.get(server.make_url("/watch")) as response:
                text = b"".join([chunk async for chunk in response.content.iter_chunked(1024 * 1024)])
            async with found.get(server.make_url("/watch")) as response:
                assert len(await response.read()) > len(NESTED), "other ways of reading stay as they are"
    events = [json.loads(line) for line in text.split(b"\n")]
    assert [item["metadata"]["name"] for item in items] == ["a", "b"]
    assert [event["type"] for event in events] == ["ADDED", "ADDED", "BOOKMARK"]
    assert events[0]["object"]["spec"] == items[0]["spec"] == {"text": "[{"}


async def test_credentials_that_were_refused_are_known_again() -> None:
    """Kopf would log in with them for ever otherwise."""
    one, again, other = (session(kopf.ConnectionInfo(server="https://api", token=token)) for token in ("a", "a", "b"))
    assert one == again
    assert one != other
    assert len({one, again, other}) == 2
    for each in (one, again, other):
        await each.aiohttp_session.close()
