"""An engine in memory, for the orders of events that a real one shows only now and then. What the errors mean is held by the engine tier's contract tests."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from taskfleet.engines.base import LoadedModel
from taskfleet.engines.errors import EngineError


class ScriptedEngine:
    """Remembers what it was asked, in order. `script` holds errors to be raised by the next calls of a method; `hold` lets a method wait."""

    def __init__(self) -> None:
        self.loaded: dict[str, str] = {}
        self.asked: list[str] = []
        self.script: dict[str, list[EngineError | None]] = {}
        self.hold: dict[str, asyncio.Event] = {}
        self.after_load: Callable[[], None] = lambda: None
        self.healthy = True
        self.strict = True

    async def health(self) -> bool:
        return self.healthy

    async def models(self) -> tuple[LoadedModel, ...]:
        await self._turn("models")
        return (LoadedModel("tiny", "/base", None), *(LoadedModel(name, root, "tiny") for name, root in self.loaded.items()))

    async def load(self, name: str, path: str) -> None:
        # The files are there when the engine is told of them, and complete.
        assert _is_whole(path)
        await self._turn("load", lambda: self.loaded.__setitem__(name, path))
        self.after_load()

    async def unload(self, name: str) -> None:
        await self._turn("unload")
        path = self.loaded.pop(name, None)
        # Files that vanish before the unload end a real engine.
        assert path is None or not self.strict or _is_whole(path)

    async def probe(self, name: str) -> None:
        await self._turn("probe")
        assert name in self.loaded

    async def _turn(self, method: str, effect: Callable[[], object] = lambda: None) -> None:
        self.asked.append(method)
        if method in self.hold:
            await self.hold[method].wait()
        error = self.script[method].pop(0) if self.script.get(method) else None
        # A lost reply: it has happened all the same.
        if error is None or error.reason == "OutcomeUnknown":
            effect()
        if error is not None:
            raise error


def _is_whole(path: str) -> bool:
    return (Path(path) / "adapter_model.safetensors").is_file() and (Path(path) / "adapter_config.json").is_file()
