"""When a pod that may have the last copy ends."""

import asyncio
import hashlib
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from taskfleet.agent import farewell as subject
from taskfleet.agent.board import Board
from taskfleet.agent.copies import Copies
from taskfleet.agent.desired import DesiredDocument
from taskfleet.agent.farewell import Farewell
from taskfleet.agent.flights import Flights
from taskfleet.agent.metrics import AgentMetrics
from taskfleet.agent.pace import Pace
from taskfleet.agent.peers import Peers
from taskfleet.agent.tokens import TokenVerifier
from taskfleet.artifacts.store import Shelf, Store
from tests.unit.agent.builders import document

MANIFEST = b"names and hashes"
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"


class OtherPods(Peers):
    """Others of the pool, who have a copy or have none; `looks` counts how often they were asked."""

    def __init__(self) -> None:
        super().__init__(
            token_file=Path("/nowhere"), own_address="", fixed=(), ended=threading.Event(), metrics=AgentMetrics(Board("pod", Flights()))
        )
        self.have_it = False
        self.looks = 0

    def have(self, shelf: Shelf, digest: str) -> bool:
        assert (shelf, digest) == (Shelf.BASE, DIGEST)
        self.looks += 1
        return self.have_it


class TheirCopies(Copies):
    """What other pods are given, as a test says it."""

    given = 0

    @property
    def giving(self) -> bool:
        return self.given > 0


@dataclass
class End:
    """A pod that is to go, with a base in its store."""

    folder: Path
    peers: OtherPods = field(default_factory=OtherPods)

    def __post_init__(self) -> None:
        self.store = Store(self.folder)
        self.store.prepare()
        self.copies = TheirCopies(
            verifier=TokenVerifier(), store=self.store, metrics=AgentMetrics(Board("pod", Flights())), bytes_per_second=1
        )
        self.document = DesiredDocument(self.folder)
        self.document.offer(document(1, base_digest=DIGEST), replaces_equal=True)

    async def stage(self) -> None:
        def fill(folder: Path, _most: int) -> bytes:
            (folder / "config.json").touch()
            return MANIFEST

        await self.store.ensure(Shelf.BASE, DIGEST, fill, check=lambda _folder: None, most=1000)

    def begin(self, *, linger: float = 600.0, seconds: float = 600.0) -> "asyncio.Task[None]":
        parts = {"document": self.document, "store": self.store, "copies": self.copies, "peers": self.peers}
        farewell = Farewell(**parts, pace=Pace(drain=0.001), linger=linger, seconds=seconds)  # type: ignore[arg-type]
        return asyncio.create_task(farewell.take(time.monotonic()))


@pytest.fixture
async def end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> End:
    monkeypatch.setattr(subject, "QUIET_SECONDS", 0.02)
    end = End(tmp_path)
    await end.stage()
    return end


async def over(task: "asyncio.Task[None]") -> None:
    await asyncio.wait_for(task, 30)


async def looked(end: End) -> None:
    async with asyncio.timeout(30):
        while not end.peers.looks:  # noqa: ASYNC110  (asked in a thread)
            await asyncio.sleep(0.001)


async def test_it_ends_at_once_where_others_have_everything(end: End) -> None:
    end.peers.have_it = True
    await over(end.begin())


async def test_it_ends_at_once_where_it_has_nothing_to_give(tmp_path: Path) -> None:
    end = End(tmp_path / "empty")
    await over(end.begin())
    assert end.peers.looks == 0


async def test_it_stays_with_the_last_copy_until_another_pod_has_it(end: End) -> None:
    task = end.begin()
    await looked(end)
    assert not task.done()
    end.peers.have_it = True
    end.copies.asked = time.monotonic()
    await over(task)


async def test_it_asks_others_again_only_when_something_was_asked_of_it(end: End) -> None:
    task = end.begin(linger=0.5)
    await over(task)
    assert end.peers.looks == 1, "hundreds of looks at its own pace"


async def test_it_does_not_stay_longer_than_it_may(end: End) -> None:
    await over(end.begin(linger=0.05))
    await over(end.begin(linger=0.0))
    end.copies.given = 1
    await over(end.begin(seconds=0.05))


async def test_copy_under_way_is_given_to_its_end(end: End) -> None:
    end.peers.have_it = True
    end.copies.given = 1
    task = end.begin(linger=0.0)
    done, _ = await asyncio.wait({task}, timeout=0.1)
    assert not done
    end.copies.given = 0
    await over(task)
