"""One adapter's life, in the orders of events that matter."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from taskfleet.agent.pace import Pace
from taskfleet.api.agent import AdapterPhase
from taskfleet.artifacts.errors import ArtifactInvalid, ArtifactNotFound, SourceUnavailable, StoreFull
from taskfleet.artifacts.store import Shelf
from taskfleet.engines.errors import AdapterInvalidError, EngineBusyError, EngineError, OutcomeUnknownError, WrongModelError
from tests.unit.agent.agent_inside import NAME, PACE, Stage, running_stage, within
from tests.unit.agent.builders import adapter, document


@pytest.fixture
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    pace: Pace = getattr(request, "param", PACE)
    async with running_stage(tmp_path, pace) as stage:
        yield stage


async def test_adapter_is_served_only_after_load_listing_and_probe(stage: Stage) -> None:
    stage.engine.hold["probe"] = asyncio.Event()
    stage.want(NAME)
    await within(lambda: "probe" in stage.engine.asked)
    assert not stage.residents.serves(NAME)
    stage.engine.hold["probe"].set()
    await stage.reach(AdapterPhase.PROVEN)
    assert stage.residents.serves(NAME)
    assert [step for step in stage.engine.asked if step != "models"] == ["load", "probe"]


async def test_lost_reply_is_settled_by_looking_and_not_by_loading_again(stage: Stage) -> None:
    stage.engine.script["load"] = [OutcomeUnknownError("no reply in time")]
    stage.want(NAME)
    await stage.reach(AdapterPhase.PROVEN)
    assert stage.engine.asked.count("load") == 1


@pytest.mark.parametrize("method", ["load", "probe", "models"])
async def test_busy_engine_is_asked_again(stage: Stage, method: str) -> None:
    await within(lambda: stage.watch.healthy)
    stage.engine.script[method] = [EngineBusyError("later"), EngineBusyError("later")]
    stage.want(NAME)
    await stage.reach(AdapterPhase.PROVEN)


async def test_one_refusal_may_be_a_dying_engines_and_is_checked(stage: Stage) -> None:
    stage.engine.script["load"] = [AdapterInvalidError("500")]
    stage.want(NAME)
    await stage.reach(AdapterPhase.PROVEN)


@pytest.mark.parametrize(
    ("method", "error"), [("load", AdapterInvalidError("500: wrong shapes")), ("probe", WrongModelError("the base answered"))]
)
async def test_repeated_refusal_is_for_good_until_another_run_of_the_engine(stage: Stage, method: str, error: EngineError) -> None:
    stage.engine.script[method] = [error, error]
    stage.want(NAME)
    report = await stage.reach(AdapterPhase.FAILED)
    assert report is not None
    assert (report.reason, report.message) == ("EngineRejected", str(error))
    assert not stage.residents.serves(NAME)
    assert stage.residents.settled()
    asked = stage.engine.asked.count("load")
    stage.want(NAME)
    stage.residents.kick()
    await asyncio.sleep(0.1)
    assert stage.engine.asked.count("load") == asked
    await restart(stage)
    await stage.reach(AdapterPhase.PROVEN)


async def restart(stage: Stage) -> None:
    stage.engine.healthy = False
    await within(lambda: not stage.watch.healthy)
    stage.engine.loaded.clear()
    stage.engine.healthy = True
    await within(lambda: stage.watch.healthy)


async def test_invalid_artifact_is_tried_once_and_touches_neither_engine_nor_store(stage: Stage) -> None:
    stage.staging.trouble.append(ArtifactInvalid("rank 64 is above the limit"))
    stage.want(NAME)
    report = await stage.reach(AdapterPhase.FAILED)
    assert report is not None
    assert report.reason == "ArtifactInvalid"
    assert "load" not in stage.engine.asked
    assert stage.staged() == []


async def test_missing_artifact_is_an_answer_and_still_tried_again(stage: Stage) -> None:
    stage.staging.trouble.extend([ArtifactNotFound("no such version")] * 30)
    stage.want(NAME, "finance.other.2")
    await within(stage.residents.settled)
    assert {report.phase for report in stage.board.adapters} <= {AdapterPhase.STAGING, AdapterPhase.PROVEN}
    await stage.reach(AdapterPhase.PROVEN)


async def test_silent_source_keeps_a_starting_pod_waiting_but_not_for_ever(stage: Stage) -> None:
    stage.staging.trouble.extend([SourceUnavailable("no route")] * 100_000)
    stage.want(NAME)
    await stage.reach(AdapterPhase.STAGING)
    assert not stage.residents.settled()
    await within(stage.residents.settled)


@pytest.mark.parametrize("stage", [replace(PACE, first_retry=3600.0, last_retry=3600.0)], indirect=True, ids=["retries are far away"])
async def test_adapter_without_room_is_fetched_as_soon_as_another_has_gone(stage: Stage) -> None:
    other = "finance.total.2"
    both = document(2, NAME, other)
    two = adapter(other, "sha256:" + "b" * 64)
    stage.want(NAME)
    await stage.reach(AdapterPhase.PROVEN)
    stage.staging.trouble.append(StoreFull("no room"))
    stage.residents.follow(both.model_copy(update={"adapters": (both.adapters[0], two)}))
    await within(lambda: (report := stage.report(other)) is not None and report.reason == "StoreFull")
    assert stage.residents.serves(NAME)
    assert not stage.residents.settled(), "a starting pod must not take over what it has no room for"
    stage.residents.follow(both.model_copy(update={"generation": 3, "adapters": (two,)}))
    await stage.reach(AdapterPhase.PROVEN, other)
    await stage.reach(None)


async def test_failure_stays_readable_while_it_is_tried_again(stage: Stage) -> None:
    stage.staging.trouble.extend([ArtifactNotFound("no such version")] * 1000)
    stage.want(NAME)
    await within(stage.residents.settled)
    version = stage.board.version
    tried = len(stage.staging.trouble)
    await within(lambda: len(stage.staging.trouble) < tried - 3)
    report = stage.report()
    assert report is not None
    assert (report.reason, report.message) == ("ArtifactNotFound", "no such version")
    assert stage.board.version == version


async def test_wish_withdrawn_during_the_load_ends_in_an_unload(stage: Stage) -> None:
    stage.engine.hold["load"] = asyncio.Event()
    stage.want(NAME)
    await within(lambda: "load" in stage.engine.asked)
    stage.want()
    stage.engine.hold["load"].set()
    await stage.reach(None)
    assert stage.engine.loaded == {}
    assert stage.staged() == []


async def test_requests_in_flight_hold_up_the_unload_and_the_files(stage: Stage) -> None:
    stage.want(NAME)
    await stage.reach(AdapterPhase.PROVEN)
    with stage.flights.flight(NAME):
        stage.want()
        assert not stage.residents.serves(NAME)
        report = await stage.reach(AdapterPhase.DRAINING)
        assert report is not None
        await asyncio.sleep(0.05)
        assert "unload" not in stage.engine.asked
        assert len(stage.staged()) == 1
    await stage.reach(None)
    assert stage.staged() == []


async def test_adapter_wanted_again_while_it_drains_is_kept_after_a_new_proof(stage: Stage) -> None:
    stage.want(NAME)
    await stage.reach(AdapterPhase.PROVEN)
    with stage.flights.flight(NAME):
        stage.want()
        await stage.reach(AdapterPhase.DRAINING)
        stage.want(NAME)
        await stage.reach(AdapterPhase.PROVEN)
    assert "unload" not in stage.engine.asked
    assert stage.engine.asked.count("load") == 1
    assert stage.engine.asked.count("probe") == 2


async def test_adapter_that_stays_listed_keeps_its_files(stage: Stage) -> None:
    stage.want(NAME)
    await stage.reach(AdapterPhase.PROVEN)
    stage.engine.script["unload"] = [EngineBusyError("later")] * 5
    stage.want()
    await within(lambda: stage.engine.asked.count("unload") >= 3)
    assert len(stage.staged()) == 1
    await stage.reach(None)
    assert stage.staged() == []


async def test_listing_older_than_the_proof_does_not_count(stage: Stage) -> None:
    stage.want(NAME)
    await stage.reach(AdapterPhase.PROVEN)
    stage.residents.compare((), float("-inf"))
    assert stage.residents.serves(NAME)


async def test_unhealthy_engine_closes_the_door_for_all_at_once(stage: Stage) -> None:
    stage.want(NAME)
    await stage.reach(AdapterPhase.PROVEN)
    await restart(stage)
    await stage.reach(AdapterPhase.PROVEN)
    assert stage.engine.asked.count("load") == 2


async def test_one_missed_health_check_closes_nothing(stage: Stage) -> None:
    stage.want(NAME)
    await stage.reach(AdapterPhase.PROVEN)
    stage.engine.healthy = False
    await stage.watch.look()
    stage.engine.healthy = True
    await stage.watch.look()
    assert stage.watch.healthy
    assert stage.watch.starts == 1


async def test_stranger_in_the_engine_is_unloaded_and_leftover_files_go(stage: Stage) -> None:
    stage.engine.strict = False
    stage.engine.loaded["finance.ghost.9"] = "/store/adapters/unknown"
    leftover = "sha256:" + "9" * 64
    await stage.staging.store.ensure(
        Shelf.ADAPTERS, leftover, lambda folder, _most: (folder / "x.json").touch(), check=lambda _folder: None, most=1000
    )
    stage.want(NAME)
    await stage.reach(AdapterPhase.PROVEN)
    await within(lambda: set(stage.engine.loaded) == {NAME}, lambda: str(stage.engine.loaded))
    await within(lambda: leftover not in stage.staged())


async def test_unexpected_error_is_reported_and_does_not_end_the_neighbours(stage: Stage) -> None:
    stage.staging.trouble.append(KeyError("a mistake of ours"))  # type: ignore[arg-type]
    stage.want(NAME, "finance.other.2")
    await stage.reach(AdapterPhase.PROVEN)
    await stage.reach(AdapterPhase.PROVEN, "finance.other.2")
