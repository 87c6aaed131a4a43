"""One running vLLM, asked over HTTP; its answers sorted into the errors of `taskfleet.engines.errors`.

What the codes mean was measured on vLLM 0.32.0 and is held by the contract tests of the engine tier. Two of them need a second look: 400 on a load may mean that all is well
already, and 500 may be the adapter's fault or the engine's end.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any

import aiohttp
import orjson

from taskfleet.engines import errors
from taskfleet.engines.base import LoadedModel
from taskfleet.engines.web_errors import is_unknown_route


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds for each kind of request. A load reads files and may wait for the engine's current step; a look must not, or a stuck engine would seem healthy."""

    change: float = 60.0
    probe: float = 60.0
    look: float = 10.0
    health: float = 3.0


_DEFAULT_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        try:
            content = orjson.loads(self.body)
        except JSONDecodeError:
            return {}
        return content if isinstance(content, dict) else {}

    @property
    def message(self) -> str:
        """The engine's own words for what is wrong, shortened: they end up in a condition."""
        error = self.json().get("error")
        text = error.get("message") if isinstance(error, dict) else None
        return str(text or self.body[:500].decode(errors="replace"))[:500]


class VllmClient:
    """An engine at a base URL such as http://127.0.0.1:8000. The session is the caller's, and needs no settings of its own."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, timeouts: Timeouts = _DEFAULT_TIMEOUTS) -> None:
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._timeouts = timeouts

    async def health(self) -> bool:
        try:
            return (await self._ask("GET", "/health", timeout=self._timeouts.health)).status == 200
        except errors.EngineError:
            return False

    async def models(self) -> tuple[LoadedModel, ...]:
        reply = await self._ask("GET", "/v1/models", timeout=self._timeouts.look)
        if reply.status != 200:
            raise await self._sorted(reply, "listing models")
        cards = reply.json().get("data")
        if not isinstance(cards, list):
            raise errors.RequestRefusedError(f"listing models: no list of models: {reply.message}")
        return tuple(LoadedModel(name=card["id"], root=card.get("root") or "", parent=card.get("parent")) for card in cards)

    async def load(self, name: str, path: str) -> None:
        doing = f"loading adapter {name} from {path}"
        reply = await self._ask("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": path}, timeout=self._timeouts.change)
        if reply.status == 200:
            return
        if reply.status == 400 and "already been loaded" in reply.message:
            await self._require_root(name, path)
            return
        if reply.status == 400 and "conflicts with a served base model" in reply.message:
            raise errors.NameTakenError(f"{doing}: the base model has this name")
        if reply.status == 404 and "No adapter found" in reply.message:
            raise errors.AdapterFilesMissingError(f"{doing}: {reply.message}")
        # 500 is what vLLM answers for whatever is wrong inside an adapter's files, and also when its core has died.
        if reply.status == 500 and await self.health():
            raise errors.AdapterInvalidError(f"{doing}: {reply.message}")
        raise await self._sorted(reply, doing)

    async def unload(self, name: str) -> None:
        reply = await self._ask("POST", "/v1/unload_lora_adapter", {"lora_name": name}, timeout=self._timeouts.change)
        if reply.status == 200 or (reply.status == 404 and "cannot be found" in reply.message):
            return
        raise await self._sorted(reply, f"unloading adapter {name}")

    async def probe(self, name: str) -> None:
        doing = f"probing model {name}"
        question = {"model": name, "prompt": "probe", "max_tokens": 1, "temperature": 0}
        reply = await self._ask("POST", "/v1/completions", question, timeout=self._timeouts.probe)
        if is_unknown_route(reply.status, reply.body):
            await self._probe_embedding(name, doing)
            return
        answer = await self._answer_of(name, reply, doing)
        generated = (answer.get("usage") or {}).get("completion_tokens", 0)
        if not answer.get("choices") or generated < 1:
            raise errors.EngineBusyError(f"{doing}: the answer holds no token")

    async def _probe_embedding(self, name: str, doing: str) -> None:
        """Of a model that generates nothing."""
        reply = await self._ask("POST", "/v1/embeddings", {"model": name, "input": "probe"}, timeout=self._timeouts.probe)
        answer = await self._answer_of(name, reply, doing)
        if not answer.get("data"):
            raise errors.EngineBusyError(f"{doing}: the answer holds no embedding")

    async def _answer_of(self, name: str, reply: _Reply, doing: str) -> dict[str, Any]:
        if reply.status == 404:
            raise errors.ModelNotServedError(f"{doing}: {reply.message}")
        if reply.status != 200:
            raise await self._sorted(reply, doing)
        answer = reply.json()
        if answer.get("model") != name:
            raise errors.WrongModelError(f"{doing}: {answer.get('model')!r} answered")
        return answer

    async def _require_root(self, name: str, path: str) -> None:
        root = {model.name: model.root for model in await self.models()}.get(name)
        if root is None:
            # Loaded when asked, gone when looked at: somebody else is unloading it. Nothing is settled, so ask again.
            raise errors.OutcomeUnknownError(f"adapter {name} was loaded a moment ago and is not listed now")
        if root != path:
            raise errors.NameTakenError(f"adapter {name} is loaded from {root}, not from {path}")

    async def _sorted(self, reply: _Reply, doing: str) -> errors.EngineError:
        """The error that a reply means wherever it has no special meaning."""
        said = f"{doing}: HTTP {reply.status}: {reply.message}"
        if reply.status >= 500:
            if not await self.health():
                return errors.EngineDeadError(said)
            return errors.EngineBusyError(said)
        if reply.status == 429:
            return errors.EngineBusyError(said)
        return errors.RequestRefusedError(said)

    async def _ask(self, method: str, path: str, content: dict[str, object] | None = None, *, timeout: float) -> _Reply:  # noqa: ASYNC109
        async with (
            _told_apart(f"{method} {path}"),
            self._session.request(
                method,
                self._base_url + path,
                data=None if content is None else orjson.dumps(content),
                headers={"content-type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=timeout),
                allow_redirects=False,
            ) as response,
        ):
            return _Reply(response.status, await response.read())


@asynccontextmanager
async def _told_apart(asking: str) -> AsyncIterator[None]:
    """Turns what aiohttp raises into: the request was never sent, or nobody knows what became of it."""
    try:
        yield
    except aiohttp.ClientConnectorError as error:
        raise errors.EngineUnreachableError(f"{asking}: {error}") from error
    except TimeoutError as error:
        raise errors.OutcomeUnknownError(f"{asking}: no reply in time") from error
    except aiohttp.ClientError as error:
        raise errors.OutcomeUnknownError(f"{asking}: the reply was lost: {error}") from error
