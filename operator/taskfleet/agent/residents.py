"""All adapters of the pod: makes what is there follow the document in force, and says which models a request may be let in for."""

import asyncio
import logging
import re
from collections.abc import Coroutine, Sequence
from pathlib import PurePosixPath

from taskfleet.agent.residency import Residency, Surroundings, Wish
from taskfleet.api.agent import DesiredState
from taskfleet.engines.base import LoadedModel
from taskfleet.logs import fields

log = logging.getLogger(__name__)

_FOLDER = re.compile(r"sha256-[0-9a-f]{64}")


class Residents:
    """Each adapter's life runs as a task of `tasks`."""

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
                self._begin(Residency(name, self._near, shared=self.shared), wish)

    def serves(self, model: str) -> bool:
        """May a request for this model go to the engine now?"""
        if not self._near.watch.healthy:
            return False
        residency = self._all.get(model)
        if residency is not None:
            return residency.serving
        document = self._document
        return document is not None and document.serve_base and model == document.served_base_name and self._base_listed

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
        for residency in self._all.values():
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
                self._begin(Residency(model.name, self._near, shared=self.shared, digest=digest), None)
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
