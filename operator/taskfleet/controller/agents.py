"""The operator's connections to the agents of all pools: their states by long poll, documents by PUT, digests by asking one, drains of idle pods by asking all.

Every call carries a token that is good for one pool only. What is known here is lost with the process; agents answer the first question at once.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
from pydantic import ValidationError

from taskfleet import names
from taskfleet.api.agent import (
    DESIRED_PATH,
    DRAIN_PATH,
    RESOLVE_PATH,
    STATE_PATH,
    UNDRAIN_PATH,
    AgentProblem,
    AgentState,
    DesiredState,
    DrainReply,
    DrainRequest,
    ResolveReply,
    ResolveRequest,
)
from taskfleet.api.conditions import Reason
from taskfleet.controller import metrics
from taskfleet.controller.keys import PoolKey
from taskfleet.kube.errors import KubeError
from taskfleet.logs import fields
from taskfleet.planning.snapshot import AgentView, PodView

log = logging.getLogger(__name__)

POLL_SECONDS = 50.0
CALL_SECONDS = 10.0
CONNECT_SECONDS = 2.0
# What an agent answers from memory. A pool waits for the slowest of its pods.
LOOK_SECONDS = 3.0
# An agent looks into a registry, which may be slow and far away; or fetches the bytes, and says in time that it is still at it (`agent.pace.Pace.resolve`).
RESOLVE_SECONDS = 90.0
# A pod that starts has no agent for a while; a pod whose node is gone has none for long.
FIRST_PAUSE_SECONDS = 0.3
# Agents run in their tenants' namespaces, so they are not trusted with the operator's time and memory: between two questions there is a pause, also for one whose every answer
# is news, and an answer has an end (the state of a full pool has less than a megabyte).
POLL_PAUSE_SECONDS = 0.05
MAX_ANSWER_BYTES = 8 * 1024 * 1024
LONGEST_PAUSE_SECONDS = 5.0


class Tokens(Protocol):
    """`kube.tokens.PoolTokens` has it."""

    async def get(self, audience: str) -> str: ...
    async def another(self, audience: str, refused: Collection[str]) -> str | None: ...
    def forget(self, audience: str) -> None: ...


class AgentUnreachableError(Exception):
    """The agent could not be asked, or did not answer as an agent does."""


class AgentOutdatedError(AgentUnreachableError):
    """The agent is of an earlier version and does not know what it was asked."""


class AgentRefusedError(Exception):
    """The agent answered with a problem."""

    def __init__(self, problem: AgentProblem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(slots=True)
class _Connection:
    pool: PoolKey
    pool_uid: str
    pod: str
    ip: str
    state: AgentState | None = None
    error: str = ""
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class AgentConnections:
    """`on_change` is called with a pool of which an agent said something new. `pause` waits between failed attempts."""

    session: aiohttp.ClientSession
    tokens: Tokens
    on_change: Callable[[PoolKey], None]
    port: int = names.AGENT_PORT
    _open: dict[PoolKey, dict[str, _Connection]] = field(default_factory=dict)

    def sync(self, pool: PoolKey, pool_uid: str, pods: Iterable[PodView]) -> None:
        """Listens to exactly these pods of a pool."""
        wanted = {pod.name: pod for pod in pods if pod.reachable}
        held = self._open.setdefault(pool, {})
        for name in [name for name, old in held.items() if name not in wanted or (old.ip, old.pool_uid) != (wanted[name].ip, pool_uid)]:
            _close(held.pop(name))
        for name, pod in wanted.items():
            if name not in held:
                connection = _Connection(pool, pool_uid, name, pod.ip)
                connection.task = asyncio.create_task(self._listen(connection), name=f"agent {pool}/{name}")
                held[name] = connection
        if not held:
            del self._open[pool]

    def forget(self, pool: PoolKey) -> None:
        """The pool is gone."""
        for connection in self._open.pop(pool, {}).values():
            _close(connection)
            self.tokens.forget(connection.pool_uid)

    def views(self, pool: PoolKey) -> tuple[AgentView, ...]:
        """What is known of a pool's agents, by pod."""
        held = self._open.get(pool, {})
        return tuple(AgentView(pod=name, state=held[name].state, error=held[name].error) for name in sorted(held))

    async def put(self, pool: PoolKey, pod: str, desired: DesiredState) -> None:
        """Hands a document to one agent. Raises AgentUnreachableError; a refusal is logged and shows in the next state."""
        connection = self._connection(pool, pod)
        body = desired.model_dump_json(by_alias=True, exclude_none=True).encode()
        try:
            answer = await self._call(connection, "PUT", DESIRED_PATH, body=body, seconds=CALL_SECONDS)
        except AgentRefusedError as error:
            log.warning("agent refused the document", extra=fields(pool=str(pool), pod=pod, generation=desired.generation, why=str(error)))
            return
        self._heard(connection, _state(answer))

    async def look(self, pool: PoolKey, pod: str) -> AgentState:
        """The state as it is now. Counts in flight are no news, so those that were heard last may be a minute old. Raises AgentUnreachableError, AgentRefusedError."""
        connection = self._connection(pool, pod)
        state = _state(await self._call(connection, "GET", STATE_PATH, seconds=LOOK_SECONDS))
        self._heard(connection, state)
        return state

    async def refresh(self, pool: PoolKey) -> None:
        """Looks at the pods that were working on something when they were heard last; one that can't be asked stays as it was heard."""
        busy = [view.pod for view in self.views(pool) if view.state is not None and view.state.in_flight]
        for result in await asyncio.gather(*(self.look(pool, pod) for pod in busy), return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, AgentUnreachableError | AgentRefusedError):
                raise result

    async def drain(self, pool: PoolKey, pod: str, request: DrainRequest) -> DrainReply:
        """Whether the pod lets nothing in from now on. Raises AgentUnreachableError (it may have accepted), AgentOutdatedError, AgentRefusedError."""
        body = request.model_dump_json(by_alias=True).encode()
        answer = await self._call(self._connection(pool, pod), "POST", DRAIN_PATH, body=body, seconds=LOOK_SECONDS, verdicts={409})
        try:
            return DrainReply.model_validate_json(answer)
        except ValidationError as error:
            raise AgentUnreachableError(f"pod {pod} answered something else than whether it drains") from error

    async def undrain(self, pool: PoolKey, pod: str) -> None:
        """Lets requests in again. Raises AgentUnreachableError, AgentRefusedError; then the drain ends by itself."""
        await self._call(self._connection(pool, pod), "POST", UNDRAIN_PATH, seconds=LOOK_SECONDS)

    async def resolve(self, pool: PoolKey, pod: str, request: ResolveRequest) -> ResolveReply:
        """The digest. Raises AgentUnreachableError, AgentRefusedError."""
        connection = self._connection(pool, pod)
        body = request.model_dump_json(by_alias=True, exclude_none=True).encode()
        answer = await self._call(connection, "POST", RESOLVE_PATH, body=body, seconds=RESOLVE_SECONDS)
        try:
            return ResolveReply.model_validate_json(answer)
        except ValidationError as error:
            raise AgentUnreachableError(f"pod {pod} answered something else than a digest") from error

    async def close(self) -> None:
        """Ends all connections."""
        tasks = [connection.task for held in self._open.values() for connection in held.values() if connection.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._open.clear()

    def _connection(self, pool: PoolKey, pod: str) -> _Connection:
        connection = self._open.get(pool, {}).get(pod)
        if connection is None:
            raise AgentUnreachableError(f"pod {pod} is gone")
        return connection

    async def _listen(self, connection: _Connection) -> None:
        pause = FIRST_PAUSE_SECONDS
        after: int | None = None
        while True:
            query = {} if after is None else {"after": str(after), "wait": str(POLL_SECONDS)}
            try:
                answer = await self._call(connection, "GET", STATE_PATH, query=query, seconds=POLL_SECONDS + CALL_SECONDS)
                state = _state(answer)
            except (AgentUnreachableError, AgentRefusedError) as error:
                self._failed(connection, str(error))
                # A restarted agent counts anew, so the next question is without a version.
                after = None
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
                continue
            after = state.version
            pause = FIRST_PAUSE_SECONDS
            self._heard(connection, state)
            await asyncio.sleep(POLL_PAUSE_SECONDS)

    def _heard(self, connection: _Connection, state: AgentState) -> None:
        before = connection.state
        news = before is None or connection.error or (before.version, before.generation) != (state.version, state.generation)
        connection.state, connection.error = state, ""
        if news:
            self.on_change(connection.pool)

    def _failed(self, connection: _Connection, error: str) -> None:
        news = not connection.error
        connection.error = error
        if news:
            # Only an agent that was heard before is missed; one that is starting is not.
            level = logging.DEBUG if connection.state is None else logging.WARNING
            log.log(level, "agent can't be asked", extra=fields(pool=str(connection.pool), pod=connection.pod, why=error))
            self.on_change(connection.pool)

    async def _call(
        self,
        connection: _Connection,
        method: str,
        path: str,
        *,
        seconds: float,
        query: dict[str, str] | None = None,
        body: bytes | None = None,
        verdicts: Collection[int] = (),
    ) -> bytes:
        """`verdicts`: statuses beyond 2xx that come with an answer, and not with a problem."""
        refused: list[str] = []
        while True:
            token = await self._token(connection, refused)
            code, answer = await self._once(connection, method, path, token=token, seconds=seconds, query=query, body=body)
            if code == 401:
                refused.append(token)
            elif code >= 300 and code not in verdicts:
                raise _problem(connection.pod, code, answer)
            else:
                return answer

    async def _token(self, connection: _Connection, refused: list[str]) -> str:
        """One that the agent has not refused."""
        try:
            token = await (self.tokens.another(connection.pool_uid, refused) if refused else self.tokens.get(connection.pool_uid))
        except KubeError as error:
            raise AgentUnreachableError(f"pod {connection.pod}: {type(error).__name__}: {error}") from error
        if token is None:
            raise AgentUnreachableError(f"pod {connection.pod} refuses the operator's tokens (401)")
        return token

    async def _once(
        self,
        connection: _Connection,
        method: str,
        path: str,
        *,
        token: str,
        seconds: float,
        query: dict[str, str] | None,
        body: bytes | None,
    ) -> tuple[int, bytes]:
        code = 0
        try:
            async with self.session.request(
                method,
                f"http://{_host(connection.ip)}:{self.port}{path}",
                params=query,
                data=body,
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=seconds, connect=CONNECT_SECONDS),
                allow_redirects=False,
            ) as response:
                code = response.status
                return code, await _bounded(connection.pod, response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AgentUnreachableError(f"pod {connection.pod}: {type(error).__name__}: {error}") from error
        finally:
            metrics.AGENT_CALLS.labels(path, str(code)).inc()


async def _bounded(pod: str, response: aiohttp.ClientResponse) -> bytes:
    answer = bytearray()
    async for piece in response.content.iter_any():
        answer += piece
        if len(answer) > MAX_ANSWER_BYTES:
            raise AgentUnreachableError(f"pod {pod} sends an answer without end")
    return bytes(answer)


def _close(connection: _Connection) -> None:
    if connection.task is not None:
        connection.task.cancel()


def _state(answer: bytes) -> AgentState:
    try:
        return AgentState.model_validate_json(answer)
    except ValidationError as error:
        raise AgentUnreachableError(
            f"answered something else than an agent's state: {error.errors(include_input=False)[0]['msg']}"
        ) from error


def _problem(pod: str, code: int, answer: bytes) -> Exception:
    try:
        return AgentRefusedError(AgentProblem.model_validate_json(answer))
    except ValidationError:
        kind = AgentOutdatedError if code == 404 else AgentUnreachableError
        return kind(f"pod {pod} answered {code}")


def unreachable(error: AgentUnreachableError) -> AgentProblem:
    """An agent that can't be asked, told as a source that can't be read now."""
    return AgentProblem(reason=Reason.SOURCE_UNAVAILABLE, message=str(error), permanent=False)


def _host(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
