"""`taskfleet push`: what an agent would refuse is refused here, and what is printed is what a TaskModel needs."""

import base64
import json
import stat
from pathlib import Path

import pytest
import yaml

from taskfleet.api.taskmodel import Adapter
from taskfleet.artifacts.errors import CredentialsMissing
from taskfleet.cli.docker_config import logins
from taskfleet.cli.pushing import push_adapter
from tests.unit.artifacts.model_files import write_adapter, write_base
from tests.unit.artifacts.registry_process import PASSWORD, USER, RegistryProcess


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Docker configuration of the test's own."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder / "config.json"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter")


def push(directory: Path, reference: str, *, base: Path | None = None, max_rank: int = 256) -> int:
    return push_adapter(directory, reference, base=base, max_rank=max_rank, insecure=True)


def test_what_is_printed_is_an_adapter_of_a_taskmodel(
    adapter: Path, registry: RegistryProcess, docker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(adapter, f"oci://{registry.host}/finance/total:v7") == 0
    printed = Adapter.model_validate(yaml.safe_load(capsys.readouterr().out)["adapter"])
    assert (printed.source, printed.version) == (f"oci://{registry.host}/finance/total", "v7")
    assert printed.digest is not None
    assert registry.blob(printed.digest).exists()


def test_equal_folders_have_equal_digests(
    adapter: Path, registry: RegistryProcess, docker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = set()
    for version in ("a", "b"):
        assert push(adapter, f"{registry.host}/equal:{version}") == 0
        digests.add(yaml.safe_load(capsys.readouterr().out)["adapter"]["digest"])
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [("training_args.bin", "may hold a pickle"), ("modeling.py", "is code"), ("notes.docx", "type that is not served")],
)
def test_files_that_are_no_data_are_refused(adapter: Path, name: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    (adapter / name).write_bytes(b"x")
    assert push(adapter, "registry.invalid/total:v1") == 1
    assert says in capsys.readouterr().err


def test_an_adapter_that_no_engine_serves_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert push(write_adapter(tmp_path / "a", use_dora=True), "registry.invalid/total:v1") == 1
    assert push(write_adapter(tmp_path / "b", rank=8), "registry.invalid/total:v1", max_rank=4) == 1
    assert push(tmp_path / "nowhere", "registry.invalid/total:v1") == 1
    err = capsys.readouterr().err.splitlines()
    assert ["use_dora" in err[0], "rank 8 is above" in err[1], "is no folder" in err[2]] == [True, True, True]


def test_with_its_base_an_adapter_of_another_base_is_refused(tmp_path: Path, adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_base(tmp_path / "base", hidden=8)
    assert push(adapter, "registry.invalid/total:v1", base=base) == 1
    assert "wrong base" in capsys.readouterr().err


@pytest.mark.parametrize("reference", ["registry.example/total", "registry.example:5000/total", "s3://bucket/total:v1", "nohost:v1"])
def test_a_reference_without_host_or_version_is_refused(adapter: Path, reference: str) -> None:
    assert push(adapter, reference) == 2


def test_plain_http_is_for_insecure_only(adapter: Path, registry: RegistryProcess, docker: Path) -> None:
    assert push_adapter(adapter, f"{registry.host}/total:v1", base=None, max_rank=256, insecure=False) == 2


def test_a_login_of_docker_is_used(
    adapter: Path, locked_registry: RegistryProcess, docker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(adapter, f"{locked_registry.host}/total:v1") == 2
    assert f"docker login {locked_registry.host}" in capsys.readouterr().err
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    docker.write_text(json.dumps({"auths": {locked_registry.host: {"auth": auth}, "other.example": {"auth": "eDp5"}}}))
    assert push(adapter, f"{locked_registry.host}/total:v1") == 0


def test_a_credential_helper_is_asked_for_its_registry(docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-vault"
    helper.write_text('#!/bin/sh\nread host\n[ "$host" = registry.example ] || exit 1\necho \'{"Username": "u", "Secret": "s"}\'\n')
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    docker.write_text(json.dumps({"credsStore": "vault"}))
    environment = {"DOCKER_CONFIG": str(docker.parent)}
    found = logins(environment, "registry.example").login("registry.example")
    assert found is not None
    assert (found.username, found.password) == ("u", "s")
    assert logins(environment, "other.example").login("other.example") is None
    docker.write_text(json.dumps({"credHelpers": {"registry.example": "lost"}}))
    with pytest.raises(CredentialsMissing, match="docker-credential-lost"):
        logins(environment, "registry.example")


def test_a_machine_without_docker_has_no_logins(tmp_path: Path) -> None:
    assert not logins({"DOCKER_CONFIG": str(tmp_path)}, "registry.example").secrets
