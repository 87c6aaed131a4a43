"""A load on the gateway, constant or by a timetable: an open loop of OpenAI requests, every outcome recorded.

It runs in a thread of its own, so that nothing that a test does while the load is on slows it. It is bounded in requests, time and concurrency, and it
never talks to anything but the local cluster's gateway. It does not retry: what a client library would paper over counts as an error here.
"""

import asyncio
import ipaddress
import json
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from taskfleet.names import CONVERSATION_HEADER

MOST_REQUESTS = 100_000
MOST_SECONDS = 900.0
MOST_IN_FLIGHT = 400
# Generous: a busy machine may be slow, and slowness is no error; standing still is.
REQUEST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """A task under load. `answers` are texts of which one must occur in every answer: the marks of the bytes that may answer. `more`: further fields of the request's body."""

    model: str
    prompt: str
    answers: tuple[str, ...] = ()
    token: str = ""
    stream: bool = False
    max_tokens: int = 32
    more: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request, the load's `number`-th from 0. `started` is monotonic, durations are seconds; `error` is empty for a right answer."""

    number: int
    model: str
    started: float
    seconds: float
    status: int
    text: str
    error: str
    request_id: str


@dataclass
class Load:
    """What a running load has seen. `began`: when it sent its first request, or would have; monotonic."""

    rate: float
    began: float = 0.0
    outcomes: list[Outcome] = field(default_factory=list)
    failure: BaseException | None = None

    def errors(self, *, since: float = 0.0) -> list[Outcome]:
        return [one for one in self.outcomes if one.error and one.started >= since]

    def wait_for(self, more: int, *, within: float = 120) -> None:
        """Returns when `more` further requests have been answered."""
        goal = len(self.outcomes) + more
        deadline = time.monotonic() + within
        while len(self.outcomes) < goal:
            assert self.failure is None, f"the load broke: {self.failure!r}"
            assert time.monotonic() < deadline, f"{len(self.outcomes)} of {goal} requests ended within {within:.0f} s"
            time.sleep(0.05)

    def assert_no_error(self) -> None:
        """Every request so far was answered, by the right bytes; and there were requests."""
        assert self.failure is None, f"the load broke: {self.failure!r}"
        assert self.outcomes, "the load sent nothing"
        wrong = self.errors()
        if wrong:
            begin = self.outcomes[0].started
            kinds = Counter(f"{one.model} {one.status} {one.error}" for one in wrong)
            lines = [
                f"{one.started - begin:7.2f} s +{one.seconds:.2f} s {one.model} {one.status} {one.request_id} {one.error}"
                for one in wrong[:15]
            ]
            raise AssertionError(f"{len(wrong)} of {len(self.outcomes)} requests failed: {kinds.most_common(8)}\n" + "\n".join(lines))

    def answered_by(self, mark: str, model: str) -> list[Outcome]:
        """The right answers of a model whose text carries a mark."""
        return [one for one in self.outcomes if one.model == model and not one.error and mark in one.text]


@contextmanager
def constant_load(url: str, targets: Sequence[Target], *, rate: float = 20, most_seconds: float = MOST_SECONDS) -> Iterator[Load]:
    """Sends `rate` requests per second, in turn to the targets, until the block ends; then waits for what is in flight.

    Errors are recorded, not raised: `Load.assert_no_error` judges.
    """
    turns = ((number / rate, targets[number % len(targets)]) for number in range(MOST_REQUESTS))
    with _running(url, turns, Load(rate=rate), most_seconds) as load:
        yield load


@contextmanager
def timed_load(url: str, requests: Sequence[tuple[float, Target]], *, most_seconds: float = MOST_SECONDS) -> Iterator[Load]:
    """Sends each request at its time, in seconds from the beginning and in rising order; else as `constant_load` does."""
    assert len(requests) <= MOST_REQUESTS
    with _running(url, requests, Load(rate=len(requests) / max(1.0, requests[-1][0])), most_seconds) as load:
        yield load


@contextmanager
def _running(url: str, requests: Iterable[tuple[float, Target]], load: Load, most_seconds: float) -> Iterator[Load]:
    _assert_local(url)
    assert most_seconds <= MOST_SECONDS
    load.began = time.monotonic()
    over = threading.Event()
    thread = threading.Thread(target=_run, args=(url, requests, load, over, most_seconds), name="load", daemon=True)
    thread.start()
    try:
        yield load
    finally:
        over.set()
        thread.join(REQUEST_SECONDS + 10)
    assert not thread.is_alive(), "requests of the load never ended"


def _assert_local(url: str) -> None:
    address = ipaddress.ip_address(urllib.parse.urlsplit(url).hostname or "")
    assert address.is_loopback or address in ipaddress.ip_network("10.208.0.0/12"), f"{url} is not the local cluster's gateway"


def _run(url: str, requests: Iterable[tuple[float, Target]], load: Load, over: threading.Event, most_seconds: float) -> None:
    try:
        asyncio.run(_drive(url, requests, load, over, most_seconds))
    except BaseException as error:  # noqa: BLE001  told by assert_no_error in the test's own thread
        load.failure = error


async def _drive(url: str, requests: Iterable[tuple[float, Target]], load: Load, over: threading.Event, most_seconds: float) -> None:
    running: set[asyncio.Task[None]] = set()
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=MOST_IN_FLIGHT)) as session:
        for number, (at, target) in enumerate(requests):
            # An open loop: the next request does not wait for the one before, so that a standstill is seen as what it is.
            await _until(load.began + at, over)
            if over.is_set() or time.monotonic() - load.began > most_seconds:
                break
            if len(running) >= MOST_IN_FLIGHT:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            request = asyncio.create_task(_one(session, url, target, number, load.outcomes.append))
            running.add(request)
            request.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)


async def _until(due: float, over: threading.Event) -> None:
    """Sleeps in short naps, so that a load of few requests also ends when it is told to."""
    while not over.is_set() and (left := due - time.monotonic()) > 0:  # noqa: ASYNC110  the event belongs to another thread
        await asyncio.sleep(min(left, 0.1))


async def _one(session: aiohttp.ClientSession, url: str, target: Target, number: int, record: Callable[[Outcome], None]) -> None:
    begin = time.monotonic()
    status, text, error = 0, "", ""
    request_id = f"load-{number}"
    # A conversation of its own: a canary's share is one of conversations.
    headers = {"x-request-id": request_id, CONVERSATION_HEADER: request_id} | (
        {"authorization": f"Bearer {target.token}"} if target.token else {}
    )
    body = {
        "model": target.model,
        "messages": [{"role": "user", "content": target.prompt}],
        "max_tokens": target.max_tokens,
        "stream": target.stream,
        **target.more,
    }
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body, headers=headers) as reply:
            status = reply.status
            raw = await reply.read()
        text, error = judge(target, status, raw)
    except (aiohttp.ClientError, TimeoutError, OSError) as problem:
        error = f"{type(problem).__name__}: {problem}"
    record(Outcome(number, target.model, begin, time.monotonic() - begin, status, text, error, request_id))


def judge(target: Target, status: int, raw: bytes) -> tuple[str, str]:
    """The answer's text, and what is wrong with it; nothing, if it is right."""
    if status != 200:
        return "", f"HTTP {status}: {raw[:300].decode(errors='replace')}"
    try:
        text, model = _streamed(raw) if target.stream else _whole(json.loads(raw))
    except (ValueError, KeyError, IndexError, TypeError) as problem:
        return "", f"not an OpenAI answer ({problem!r}): {raw[:300].decode(errors='replace')}"
    if model != target.model:
        return text, f"answered as {model}"
    if target.answers and not any(mark in text for mark in target.answers):
        return text, f"answered by other bytes: {text[:200]}"
    return text, ""


def _whole(answer: dict[str, Any]) -> tuple[str, str]:
    return str(answer["choices"][0]["message"]["content"]), str(answer["model"])


def _streamed(raw: bytes) -> tuple[str, str]:
    events = [line.removeprefix(b"data: ") for line in raw.split(b"\n") if line.startswith(b"data: ")]
    if not events or events[-1].strip() != b"[DONE]":
        raise ValueError("the stream has no end")
    chunks = [json.loads(event) for event in events[:-1]]
    models = {chunk["model"] for chunk in chunks}
    if len(models) != 1:
        raise ValueError(f"the stream names {len(models)} models")
    deltas = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    return "".join(deltas), str(models.pop())
