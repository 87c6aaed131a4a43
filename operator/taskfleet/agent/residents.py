"""All adapters of the pod: makes what is there follow the document in force, and says which models a request may be let in for."""

import asyncio
import logging
import re
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath

from taskfleet.agent.crowding import Loaded, surplus
from taskfleet.agent.residency import Residency, Surroundings, Wish
from taskfleet.api.agent import DesiredState
from taskfleet.engines.base import LoadedModel
from taskfleet.logs import fields

log = logging.getLogger(__name__)

_FOLDER = re.compile(r"sha256-[0-9a-f]{64}")


class Residents:
    """Each adapter's life runs as a task of `tasks`.

    Where the document bounds how many adapters the engine has loaded, those that were not used for longest are unloaded once they are proven, and stay staged: they are cold.
    A request for a cold adapter is let in, and waits for the load.
    """

    def __init__(self, surroundings: Surroundings, tasks: asyncio.TaskGroup) -> None:
        self._near = surroundings
        self._tasks = tasks
        self._all: dict[str, Residency] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._document: DesiredState | None = None
        self._base_listed = False
        self._leftovers_removed = False

    def follow(self, document: DesiredState) -> None:
        """Takes up a document. What it doesn't name any more is refused to requests from this moment on."""
        self._document = document
        wishes = {adapter.engine_name: Wish(adapter, document.limits) for adapter in document.adapters}
        for name, residency in self._all.items():
            residency.want(wishes.get(name))
        for name, wish in wishes.items():
            if name not in self._all:
                self._begin(self._residency(name), wish)
        self._make_room()

    def serves(self, model: str) -> bool:
        """May a request for this model be let in now? No await may come between this and its `flight`."""
        if not self._near.watch.healthy:
            return False
        residency = self._all.get(model)
        if residency is not None:
            return residency.serving
        document = self._document
        return document is not None and document.serve_base and model == document.served_base_name and self._base_listed

    @contextmanager
    def flight(self, model: str) -> Iterator[None]:
        """One request, from being let in to its end. While it is in flight its adapter is not unloaded."""
        residency = self._all.get(model)
        if residency is not None:
            residency.last_used = time.monotonic()
        try:
            with self._near.flights.flight(model):
                yield
        finally:
            if residency is not None:
                residency.last_used = time.monotonic()
            self._make_room()

    async def at_hand(self, model: str) -> bool:
        """For a request in flight: may it go to the engine? Waits where its adapter is cold. False: it couldn't be loaded, or isn't wanted any more."""
        residency = self._all.get(model)
        if residency is None or residency.loaded:
            return True
        with self._near.metrics.demand_wait_seconds.time():
            return await residency.at_hand()

    def withdraw(self, model: str, why: str) -> None:
        """A request has met something that a proven adapter can't answer with."""
        residency = self._all.get(model)
        if residency is not None:
            residency.withdraw(why)
        self._near.watch.suspect()

    def settled(self) -> bool:
        """Has every wanted adapter had its attempt?"""
        return self._document is not None and all(residency.settled for residency in self._all.values() if residency.wanted)

    def kick(self) -> None:
        """The base was staged, or the engine came or went."""
        if not self._near.watch.healthy:
            self._base_listed = False
        # A new engine gets first what was used last.
        for residency in sorted(self._all.values(), key=lambda residency: residency.last_used, reverse=True):
            if not self._near.watch.healthy:
                residency.withdraw("the engine does not answer")
            residency.kick()

    def compare(self, models: Sequence[LoadedModel], asked: float) -> None:
        """Holds the engine's own listing against what we believe; `asked` is the moment of the question on the monotonic clock."""
        listed = {model.name: model for model in models}
        self._base_listed = self._document is not None and self._document.served_base_name in listed
        for name, residency in list(self._all.items()):
            residency.check_listing(listed.get(name), asked)
        for model in models:
            # An adapter from the time of an agent before this one, that the document doesn't name any more.
            if model.parent is not None and model.name not in self._all and self._document is not None:
                folder = PurePosixPath(model.root).name
                digest = folder.replace("-", ":", 1) if _FOLDER.fullmatch(folder) else None
                self._begin(self._residency(model.name, digest), None)
        if self._document is not None and not self._leftovers_removed:
            self._leftovers_removed = True
            self._spawn(self._remove_leftovers())

    def shared(self, engine_name: str, digest: str) -> bool:
        """Does another adapter need these files? Two tasks may have the same bytes under two names."""
        return any(residency.digest == digest for name, residency in self._all.items() if name != engine_name)

    def cancel(self) -> None:
        """Ends all tasks: the agent itself is ending."""
        for life in self._lives:
            life.cancel()

    def _residency(self, name: str, digest: str | None = None) -> Residency:
        return Residency(name, self._near, shared=self.shared, on_loaded=self._make_room, digest=digest)

    def _make_room(self) -> None:
        """An adapter was loaded, a request has ended, or the limit is another."""
        limit = self._document.max_resident if self._document is not None else None
        loaded = self._near.board.loaded
        if limit is None or len(loaded) <= limit:
            return
        flights = self._near.flights
        crowd = [Loaded(name=name, last_used=self._all[name].last_used, busy=flights.count(name) > 0) for name in loaded]
        # No await between the look at what is in flight and the closing: a request that comes now waits for a new load.
        for name in surplus(crowd, limit):
            self._all[name].rest()

    def _spawn(self, life: Coroutine[None, None, None]) -> None:
        task = self._tasks.create_task(life)
        self._lives.add(task)
        task.add_done_callback(self._lives.discard)

    def _begin(self, residency: Residency, wish: Wish | None) -> None:
        self._all[residency.engine_name] = residency
        residency.want(wish)
        self._spawn(self._live(residency))

    async def _live(self, residency: Residency) -> None:
        await residency.run()
        # No await since the adapter was found unwanted: a document that comes later makes a new residency.
        del self._all[residency.engine_name]
        # Its files are gone: there may be room for one that found none.
        for other in self._all.values():
            other.kick()

    async def _remove_leftovers(self) -> None:
        """Deletes files of adapters that neither the document nor the engine has: an agent before this one ended between unload and delete."""
        staging = self._near.staging
        for digest in staging.leftovers():
            if not self.shared("", digest):
                log.info("leftover adapter files are deleted", extra=fields(digest=digest))
                await staging.forget_adapter(digest, unused=lambda digest=digest: not self.shared("", digest))  # type: ignore[misc]
