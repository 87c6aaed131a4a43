"""How a verb is written: against what was read, and decided anew where somebody else was faster."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from taskfleet import names
from taskfleet.cli.cluster import UnusableError
from taskfleet.cli.rollout import steering
from taskfleet.cli.rollout.verbs import Order, Refused, Verb
from taskfleet.cli.rollout.view import View
from taskfleet.kube.errors import ConflictError, ForbiddenError, KubeError
from tests.unit.cli.views import rejected, stepping, version

V8 = version(8).metadata.name


class Cluster:
    """Has these views, one after the other, and fails writes with these errors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *views: View, errors: tuple[KubeError, ...] = ()) -> None:
        self.written: list[tuple[Mapping[str, str | None], str]] = []
        self._views, self._errors = list(views), list(errors)
        monkeypatch.setattr(steering, "read", self._read)

    async def write(self, verb: Verb) -> Any:
        return await steering._write(SimpleNamespace(annotate=self._annotate), "finance", "total", verb)  # type: ignore[arg-type]

    async def _read(self, *_: object) -> View:
        return self._views.pop(0) if len(self._views) > 1 else self._views[0]

    async def _annotate(self, *arguments: Any, resource_version: str, **_: object) -> None:
        if self._errors:
            raise self._errors.pop(0)
        self.written.append((arguments[-1], resource_version))


async def test_a_verb_is_written_against_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, stepping())
    assert isinstance(await cluster.write(Verb.ABORT), Order)
    assert cluster.written == [({names.ANNOTATION_ABORT: V8}, "41")]


async def test_after_a_conflict_the_verb_is_decided_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that was read is over: what is written is about the present one."""
    cluster = Cluster(monkeypatch, stepping(), stepping(rollout={"step": 2}), errors=(ConflictError("changed"),))
    await cluster.write(Verb.PROMOTE)
    assert cluster.written == [({names.ANNOTATION_PROMOTE: f"{V8}@full"}, "41")]


async def test_what_ended_meanwhile_is_not_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, stepping(), rejected(), errors=(ConflictError("changed"),))
    assert isinstance(await cluster.write(Verb.ABORT), Refused)
    assert not cluster.written


async def test_who_may_not_patch_is_told_which_right_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, stepping(), errors=(ForbiddenError("forbidden"),))
    with pytest.raises(UnusableError, match="may not pause: that needs the right to patch taskmodels in namespace finance"):
        await cluster.write(Verb.PAUSE)


async def test_an_object_that_never_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, stepping(), errors=(ConflictError("changed"),) * 50)
    with pytest.raises(UnusableError, match="nothing was written"):
        await cluster.write(Verb.ABORT)
