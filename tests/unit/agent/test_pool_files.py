"""The mounted ConfigMap, exchanged as the kubelet does it."""

import json
import logging
from pathlib import Path

import pytest

from taskfleet.agent.pool_files import PoolFiles
from taskfleet.api.agent import DESIRED_KEY, TRUST_KEY, DesiredState, Trust
from tests.engine import issuer
from tests.unit.agent.builders import document


class Mounted:
    """A ConfigMap volume: files are links into `..data`, which is a link that is exchanged whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._versions = 0
        self.documents: list[DesiredState] = []
        self.trusts: list[Trust] = []
        self.full_disk = False
        self.files = PoolFiles(folder, on_desired=self._desired, on_trust=self.trusts.append, every=1.0)

    def mount(self, **content: str) -> None:
        self._versions += 1
        version = self._folder / f"..{self._versions}"
        version.mkdir()
        for name, text in content.items():
            key = {"desired": DESIRED_KEY, "trust": TRUST_KEY}[name]
            (version / key).write_text(text)
            if not (self._folder / key).is_symlink():
                (self._folder / key).symlink_to(f"..data/{key}")
        beside = self._folder / "..data_tmp"
        beside.symlink_to(version.name)
        beside.replace(self._folder / "..data")

    def _desired(self, desired: DesiredState) -> None:
        if self.full_disk:
            raise OSError("no space left on device")
        self.documents.append(desired)


def text(generation: int) -> str:
    return json.dumps(document(generation).to_json())


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    return Mounted(tmp_path)


def test_each_content_is_handed_over_once(mounted: Mounted) -> None:
    mounted.files.look()
    assert mounted.documents == []
    mounted.mount(desired=text(1), trust=json.dumps(issuer.trust().to_json()))
    for _ in range(3):
        mounted.files.look()
    mounted.mount(desired=text(2), trust=json.dumps(issuer.trust().to_json()))
    mounted.files.look()
    assert [found.generation for found in mounted.documents] == [1, 2]
    assert mounted.trusts[0] == issuer.trust()


@pytest.mark.parametrize("bad", ["", "no json", "{}", "[]", '{"generation": "x"}', " " * 3_000_000])
def test_content_that_makes_no_sense_is_said_once_and_left_aside(mounted: Mounted, bad: str, caplog: pytest.LogCaptureFixture) -> None:
    mounted.mount(desired=text(1))
    mounted.files.look()
    mounted.mount(desired=bad, trust=bad)
    with caplog.at_level(logging.WARNING):
        mounted.files.look()
        mounted.files.look()
    assert [record.taskfleet_fields["file"] for record in caplog.records] == [TRUST_KEY, DESIRED_KEY]  # type: ignore[attr-defined]
    assert [found.generation for found in mounted.documents] == [1]
    mounted.mount(desired=text(3))
    mounted.files.look()
    assert [found.generation for found in mounted.documents] == [1, 3]


def test_document_that_could_not_be_kept_is_offered_again(mounted: Mounted) -> None:
    mounted.mount(desired=text(1))
    mounted.full_disk = True
    mounted.files.look()
    mounted.full_disk = False
    mounted.files.look()
    assert [found.generation for found in mounted.documents] == [1]
