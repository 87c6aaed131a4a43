"""Golden sets come from a mounted file, or from a source that has the bytes of the digest, and from nowhere else."""

import hashlib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskfleet.api.taskmodel import Dataset
from taskfleet.artifacts.access import Access
from taskfleet.artifacts.addresses import parse_networks
from taskfleet.artifacts.errors import (
    ArtifactInvalid,
    ArtifactNotFound,
    ArtifactTooLarge,
    DigestMismatch,
    SourceNotAllowed,
    SourceUnavailable,
    UnsupportedSource,
)
from taskfleet.artifacts.push import push
from taskfleet.evaluation import dataset, golden
from tests.unit.artifacts.certificates import serving, trusting, write_certificate
from tests.unit.artifacts.local_server import server
from tests.unit.artifacts.registry_process import RegistryProcess, running_registry
from tests.unit.artifacts.web_folder import WebFolder

TEXT = b'{"input": "x", "expected": "y"}\n'
DIGEST = "sha256:" + hashlib.sha256(TEXT).hexdigest()
OTHER = "sha256:" + "0" * 64


def access(*hosts: str, allowed: str = "127.0.0.0/8", tls: ssl.SSLContext | None = None) -> Access:
    return Access(credentials_directory=Path("none"), insecure_hosts=frozenset(hosts), allowed_networks=parse_networks(allowed), tls=tls)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@contextmanager
def web(folder: Path, files: dict[str, bytes]) -> Iterator[tuple[str, ssl.SSLContext]]:
    certificate = write_certificate(folder, names="IP:127.0.0.1")
    with server(WebFolder(files=files).answer, tls=serving(certificate)) as running:
        yield f"https://{running.host}", trusting(certificate)


def test_mounted_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "golden.jsonl").write_bytes(TEXT)
    assert dataset.mounted(tmp_path / "golden.jsonl", None) == TEXT
    assert dataset.mounted(tmp_path / "golden.jsonl", DIGEST) == TEXT


def test_mounted_file_that_changed_or_is_gone_may_be_right_later(tmp_path: Path) -> None:
    (tmp_path / "golden.jsonl").write_bytes(TEXT)
    with pytest.raises(SourceUnavailable, match="has changed"):
        dataset.mounted(tmp_path / "golden.jsonl", OTHER)
    with pytest.raises(SourceUnavailable, match="can't be read"):
        dataset.mounted(tmp_path / "none.jsonl", None)


def test_file_of_an_artifact_is_fetched(registry: RegistryProcess, tmp_path: Path) -> None:
    (tmp_path / "golden.jsonl").write_bytes(TEXT)
    (tmp_path / "README.md").write_text("beside it")
    digest = push(tmp_path, f"{registry.host}/finance/golden:v1", insecure=True)
    source = f"oci://{registry.host}/finance/golden"
    reached = access(registry.host)
    assert dataset.fetched(Dataset(source=source, digest=digest), access=reached) == TEXT
    with pytest.raises(ArtifactNotFound, match="no file other"):
        dataset.fetched(Dataset(source=source, digest=digest, key="other.jsonl"), access=reached)


def test_file_of_a_web_server_is_fetched_by_its_own_digest(tmp_path: Path) -> None:
    with web(tmp_path, {"/sets/golden.jsonl": TEXT}) as (url, tls):
        assert dataset.fetched(Dataset(source=f"{url}/sets", digest=DIGEST), access=access(tls=tls)) == TEXT
        with pytest.raises(DigestMismatch, match="has other bytes"):
            dataset.fetched(Dataset(source=f"{url}/sets", digest=OTHER), access=access(tls=tls))
        with pytest.raises(ArtifactNotFound):
            dataset.fetched(Dataset(source=f"{url}/none", digest=DIGEST), access=access(tls=tls))
        with pytest.raises(SourceNotAllowed, match="loopback"):
            dataset.fetched(Dataset(source=f"{url}/sets", digest=DIGEST), access=access(tls=tls, allowed=""))


def test_size_is_bounded(tmp_path: Path) -> None:
    with (
        web(tmp_path, {"/sets/golden.jsonl": b" " * (golden.MAX_BYTES + 1)}) as (url, tls),
        pytest.raises(ArtifactTooLarge),
    ):
        dataset.fetched(Dataset(source=f"{url}/sets", digest=DIGEST), access=access(tls=tls))


@pytest.mark.parametrize("source", ["pvc://claim/golden", "hf://org/golden"])
def test_other_sources_are_told(source: str) -> None:
    with pytest.raises(UnsupportedSource, match="golden sets come from"):
        dataset.fetched(Dataset(source=source, digest=DIGEST), access=access())


@pytest.mark.parametrize("key", ["golden.py", "golden.pkl", "..jsonl"])
def test_file_is_data_by_its_name_already(key: str) -> None:
    wanted = Dataset.model_construct(source="https://127.0.0.1:1/sets", digest=DIGEST, key=key, credentials_key=None)
    with pytest.raises(ArtifactInvalid):
        dataset.fetched(wanted, access=access())
