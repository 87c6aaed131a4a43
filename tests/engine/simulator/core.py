"""The engine behind the server: which adapters are listed, which are in memory, and what kills it.

A real vLLM keeps listed adapters in memory up to `max_cpu_loras` and reads the others from disk again when they are asked for. When the files are gone by then, the engine's
core dies: every request fails, /health turns to 503, and the process ends by itself with exit code 0. So does the simulator's. Its core is a process too, which a test may kill.
"""

import asyncio
import os
import signal
import sys
from collections import OrderedDict
from dataclasses import dataclass

from .options import Options
from .slots import Slots
from .weights import Adapter, AdapterBrokenError, AdapterMissingError, Base, read_adapter, read_base

# Between the core's death and the end of the process, in seconds; vLLM was seen to take two.
DYING_SECONDS = 1.0
# Ends when its standard input does: no core is left over, however the server ended.
CORE = "import sys; sys.stdin.read()"


class CoreDeadError(Exception):
    """The engine's core is gone; nothing is answered any more."""


class NameListedError(Exception):
    """The name is taken: by another adapter, or by the base."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An adapter as /v1/models tells it."""

    name: str
    path: str


class Core:
    """One base, its adapters, its slots."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.base: Base = read_base(options.model)
        self.slots = Slots(sequences=options.max_num_seqs, adapters=options.max_loras)
        self.listed: dict[str, Listed] = {}
        self.dead = asyncio.Event()
        self._resident: OrderedDict[str, Adapter] = OrderedDict()
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def max_model_len(self) -> int:
        return self.options.max_model_len or self.base.positions

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(sys.executable, "-c", CORE, stdin=asyncio.subprocess.PIPE)
        self._watch = asyncio.create_task(self._end_with(self._process))

    async def load(self, name: str, path: str) -> None:
        """Raises NameListedError, AdapterMissingError, AdapterBrokenError, CoreDeadError."""
        if name == self.options.served_model_name:
            raise NameListedError(f"The lora adapter '{name}' conflicts with a served base model.")
        if name in self.listed:
            raise NameListedError(
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True."
            )
        await self._alive(self.options.load_seconds)
        self._keep(name, read_adapter(path, self.base, self.options.max_lora_rank))
        self.listed[name] = Listed(name, path)

    def unload(self, name: str) -> bool:
        """False if no such adapter is listed. Nothing is freed: vLLM doesn't either."""
        return self.listed.pop(name, None) is not None

    async def adapter(self, listed: Listed) -> Adapter:
        """The adapter in memory, read from disk again where it was evicted. Raises CoreDeadError, also by its own doing."""
        await self._alive(0)
        if listed.name in self._resident:
            self._resident.move_to_end(listed.name)
            return self._resident[listed.name]
        try:
            adapter = read_adapter(listed.path, self.base, self.options.max_lora_rank)
        except (AdapterMissingError, AdapterBrokenError) as error:
            self.die(f"adapter {listed.name} can't be read again: {error!r}")
            raise CoreDeadError from error
        self._keep(listed.name, adapter)
        return adapter

    def die(self, why: str) -> None:
        """End the core; the process follows."""
        if not self.dead.is_set():
            print(f"engine core died: {why}", file=sys.stderr, flush=True)
            self.dead.set()
            asyncio.get_running_loop().call_later(DYING_SECONDS, os.kill, os.getpid(), signal.SIGTERM)

    async def _alive(self, seconds: float) -> None:
        """Let `seconds` pass in the core; raises CoreDeadError if it is dead or dies meanwhile."""
        if seconds and not self.dead.is_set():
            try:
                await asyncio.wait_for(self.dead.wait(), seconds)
            except TimeoutError:
                return
        if self.dead.is_set():
            raise CoreDeadError

    async def pause(self, seconds: float) -> None:
        """Time that generation takes. Raises CoreDeadError if the core dies meanwhile."""
        await self._alive(seconds)

    def _keep(self, name: str, adapter: Adapter) -> None:
        self._resident[name] = adapter
        self._resident.move_to_end(name)
        while len(self._resident) > self.options.max_cpu_loras:
            self._resident.popitem(last=False)

    async def _end_with(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        self.die(f"its process ended with {process.returncode}")
