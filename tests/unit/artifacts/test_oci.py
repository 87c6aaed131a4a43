"""Pushing to, resolving at and fetching from a real registry."""

import base64
import json
import tarfile
from pathlib import Path

import pytest
import requests

from taskfleet.artifacts import lora, oci
from taskfleet.artifacts.access import Access, FetchLimits
from taskfleet.artifacts.addresses import parse_networks
from taskfleet.artifacts.credentials import Credentials, Login
from taskfleet.artifacts.errors import (
    ArtifactInvalid,
    ArtifactNotFound,
    CredentialsMissing,
    DigestMismatch,
    SourceUnavailable,
    UnsupportedSource,
)
from taskfleet.artifacts.manifest import TITLE
from taskfleet.artifacts.push import push
from tests.unit.artifacts.model_files import write_adapter
from tests.unit.artifacts.registry_process import PASSWORD, USER, RegistryProcess

LIMITS = FetchLimits(max_bytes=1_000_000, max_files=8, seconds=30)
LOOPBACK = parse_networks("127.0.0.0/8")
NOWHERE = "sha256:" + "0" * 64


def access(registry: RegistryProcess, credentials: Path = Path("none")) -> Access:
    return Access(credentials_directory=credentials, insecure_hosts=frozenset({registry.host}), allowed_networks=LOOPBACK)


def pushed(registry: RegistryProcess, folder: Path, name: str, tag: str = "v1") -> tuple[str, str]:
    """The source and the digest."""
    return f"oci://{registry.host}/{name}", push(folder, f"{registry.host}/{name}:{tag}", insecure=True)


def fetch(registry: RegistryProcess, source: str, digest: str, into: Path, limits: FetchLimits = LIMITS) -> set[str]:
    into.mkdir()
    oci.fetch(source, digest, into, key=None, access=access(registry), limits=limits, wanted=lora.FILES.__contains__)
    return {path.name for path in into.iterdir()}


def vouched(registry: RegistryProcess, source: str, digest: str, into: Path) -> bytes | None:
    """The manifest of what was fetched."""
    into.mkdir()
    return oci.fetch(source, digest, into, key=None, access=access(registry), limits=LIMITS, wanted=lora.FILES.__contains__)


def upload(registry: RegistryProcess, name: str, content: bytes) -> dict[str, object]:
    """A blob as a layer of a manifest."""
    digest = oci._sha256(content)
    began = requests.post(f"http://{registry.host}/v2/{name}/blobs/uploads/", timeout=30)
    done = requests.put(began.headers["Location"], params={"digest": digest}, data=content, timeout=30)
    assert done.status_code == 201
    return {"mediaType": "application/octet-stream", "digest": digest, "size": len(content)}


def put_manifest(registry: RegistryProcess, name: str, **content: object) -> tuple[str, str]:
    """A manifest as it is given, however absurd; its source and digest."""
    config = upload(registry, name, b"{}")
    kind = "application/vnd.oci.image.manifest.v1+json"
    text = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, **content}).encode()
    answer = requests.put(f"http://{registry.host}/v2/{name}/manifests/v1", data=text, headers={"Content-Type": kind}, timeout=30)
    assert answer.status_code == 201, answer.text
    return f"oci://{registry.host}/{name}", oci._sha256(text)


def test_pushed_folder_is_resolved_and_fetched_byte_for_byte(registry: RegistryProcess, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter")
    (folder / "README.md").write_text("not needed by an engine")
    source, digest = pushed(registry, folder, "plain/adapter")
    assert oci.resolve(source, "v1", None, key=None, access=access(registry)) == digest
    assert fetch(registry, source, digest, tmp_path / "got") == lora.FILES
    for name in lora.FILES:
        assert (tmp_path / "got" / name).read_bytes() == (folder / name).read_bytes()


def test_equal_folders_have_equal_digests(registry: RegistryProcess, tmp_path: Path) -> None:
    first = pushed(registry, write_adapter(tmp_path / "one"), "equal/one")[1]
    assert pushed(registry, write_adapter(tmp_path / "two"), "equal/two")[1] == first


def test_fetch_gives_the_manifest_that_vouches_for_the_files(registry: RegistryProcess, tmp_path: Path) -> None:
    source, digest = pushed(registry, write_adapter(tmp_path / "adapter"), "vouched")
    manifest = vouched(registry, source, digest, tmp_path / "got")
    assert manifest is not None
    assert oci._sha256(manifest) == digest


def test_moved_tag_resolves_anew_while_the_digest_keeps_its_bytes(registry: RegistryProcess, tmp_path: Path) -> None:
    source, first = pushed(registry, write_adapter(tmp_path / "one", rank=4), "moved")
    second = pushed(registry, write_adapter(tmp_path / "two", rank=2), "moved")[1]
    assert oci.resolve(source, "v1", None, key=None, access=access(registry)) == second != first
    fetch(registry, source, first, tmp_path / "got")
    assert json.loads((tmp_path / "got" / "adapter_config.json").read_text())["r"] == 4


def test_what_a_tag_stands_for_is_told_without_a_download(registry: RegistryProcess, tmp_path: Path) -> None:
    source, first = pushed(registry, write_adapter(tmp_path / "one", rank=4), "standing")
    assert oci.standing(source, "v1", key=None, access=access(registry)) == first
    second = pushed(registry, write_adapter(tmp_path / "two", rank=2), "standing")[1]
    assert oci.standing(source, "v1", key=None, access=access(registry)) == second
    assert oci.standing(source, "v2", key=None, access=access(registry)) is None
    with pytest.raises(SourceUnavailable):
        oci.standing("oci://127.0.0.1:1/known", "v1", key=None, access=access(registry))


def test_pin_resolves_to_itself_only_where_it_exists(registry: RegistryProcess, tmp_path: Path) -> None:
    source, digest = pushed(registry, write_adapter(tmp_path / "adapter"), "pinned")
    assert oci.resolve(source, "any", digest, key=None, access=access(registry)) == digest
    with pytest.raises(ArtifactNotFound):
        oci.resolve(source, "any", NOWHERE, key=None, access=access(registry))


def test_what_the_registry_does_not_have_is_told_apart(registry: RegistryProcess, tmp_path: Path) -> None:
    source, _ = pushed(registry, write_adapter(tmp_path / "adapter"), "known")
    with pytest.raises(ArtifactNotFound, match="has no v2"):
        oci.resolve(source, "v2", None, key=None, access=access(registry))
    with pytest.raises(ArtifactNotFound):
        oci.resolve(f"oci://{registry.host}/unknown", "v1", None, key=None, access=access(registry))
    with pytest.raises(SourceUnavailable):
        oci.resolve("oci://127.0.0.1:1/known", "v1", None, key=None, access=access(registry))


def test_registry_is_asked_over_tls_unless_it_is_listed(registry: RegistryProcess, tmp_path: Path) -> None:
    source, _ = pushed(registry, write_adapter(tmp_path / "adapter"), "tls")
    with pytest.raises(SourceUnavailable):
        oci.resolve(source, "v1", None, key=None, access=Access(credentials_directory=tmp_path, allowed_networks=LOOPBACK))


@pytest.mark.parametrize("source", ["hf://org/model", "https://example.com/x", "s3://bucket/x", "nothing"])
def test_other_sources_are_not_supported_yet(source: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedSource):
        oci.resolve(source, "v1", None, key=None, access=Access(credentials_directory=tmp_path, allowed_networks=LOOPBACK))


@pytest.mark.parametrize("source", ["oci://host", "oci://host/UPPER", "oci://user@host/x", "oci://host/../x", "oci://host/x?y", "oci:///x"])
def test_source_that_names_no_repository_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactInvalid):
        oci.resolve(source, "v1", None, key=None, access=Access(credentials_directory=tmp_path, allowed_networks=LOOPBACK))


def first_blob(registry: RegistryProcess, digest: str) -> Path:
    """Where the registry keeps the first file of an artifact: manifests are blobs too."""
    return registry.blob(json.loads(registry.blob(digest).read_text())["layers"][0]["digest"])


def test_tampered_file_is_noticed(registry: RegistryProcess, tmp_path: Path) -> None:
    source, digest = pushed(registry, write_adapter(tmp_path / "adapter", lora_alpha=77), "tampered")
    blob = first_blob(registry, digest)
    blob.write_bytes(b"X" + blob.read_bytes()[1:])
    with pytest.raises(DigestMismatch):
        fetch(registry, source, digest, tmp_path / "got")


def test_shortened_file_is_noticed(registry: RegistryProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskfleet.artifacts.download.PAUSE_SECONDS", 0.001)
    source, digest = pushed(registry, write_adapter(tmp_path / "adapter", lora_alpha=78), "shortened")
    blob = first_blob(registry, digest)
    blob.write_bytes(blob.read_bytes()[:-5])
    with pytest.raises(SourceUnavailable, match="the source has listed"):
        fetch(registry, source, digest, tmp_path / "got")


def test_artifact_above_a_limit_is_refused_before_a_byte_of_it_is_fetched(registry: RegistryProcess, tmp_path: Path) -> None:
    source, digest = pushed(registry, write_adapter(tmp_path / "adapter"), "large")
    for number, limits in enumerate((FetchLimits(max_bytes=100, max_files=8), FetchLimits(max_bytes=1_000_000, max_files=1))):
        with pytest.raises(ArtifactInvalid, match="at most"):
            fetch(registry, source, digest, tmp_path / str(number), limits)
        assert not list((tmp_path / str(number)).iterdir())


def test_slow_source_is_given_up(registry: RegistryProcess, tmp_path: Path) -> None:
    source, digest = pushed(registry, write_adapter(tmp_path / "adapter"), "slow")
    with pytest.raises(SourceUnavailable, match="too long"):
        fetch(registry, source, digest, tmp_path / "got", FetchLimits(max_bytes=1_000_000, seconds=0))


def test_download_ends_when_the_agent_does(registry: RegistryProcess, tmp_path: Path) -> None:
    source, digest = pushed(registry, write_adapter(tmp_path / "adapter"), "ended")
    reached = access(registry)
    reached.ended.set()
    with pytest.raises(SourceUnavailable, match="ending"):
        oci.fetch(source, digest, tmp_path, key=None, access=reached, limits=LIMITS, wanted=lora.FILES.__contains__)


@pytest.mark.parametrize("digest", ["sha256:short", "v1", "sha256:" + "a" * 63 + "/"])
def test_pin_that_is_no_digest_is_refused(registry: RegistryProcess, digest: str) -> None:
    with pytest.raises(ArtifactInvalid, match="no SHA-256"):
        oci.resolve(f"oci://{registry.host}/x", "v1", digest, key=None, access=access(registry))


def test_plain_tar_layer_is_taken_apart(registry: RegistryProcess, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter")
    with tarfile.open(tmp_path / "layer.tar", "w") as tar:
        for path in folder.iterdir():
            tar.add(path, arcname=f"./{path.name}")
    layer = upload(registry, "tarred", (tmp_path / "layer.tar").read_bytes())
    source, digest = put_manifest(registry, "tarred", layers=[{**layer, "mediaType": "application/vnd.oci.image.layer.v1.tar"}])
    assert fetch(registry, source, digest, tmp_path / "got") == lora.FILES
    assert vouched(registry, source, digest, tmp_path / "again") is None, "a tar's digest says nothing of the files in it"


def test_hostile_names_and_shapes_of_manifests_are_refused(registry: RegistryProcess, tmp_path: Path) -> None:
    layer = upload(registry, "hostile", b"data")

    def named(title: str, **more: object) -> dict[str, object]:
        return {**layer, "annotations": {TITLE: title}, **more}

    manifests: list[tuple[list[dict[str, object]], str]] = [
        ([], "empty"),
        ([named("../escape.json")], "not allowed"),
        ([named("/absolute.json")], "not allowed"),
        ([named("weights.bin")], "pickle"),
        ([named("code.py")], "code"),
        ([named("a.json"), named("a.json")], "two files"),
        ([{**layer}], "no file name"),
        ([named("a.json", mediaType="application/vnd.oci.image.layer.v1.tar+gzip")], "compressed"),
    ]
    for number, (layers, said) in enumerate(manifests):
        source, digest = put_manifest(registry, "hostile", layers=layers)
        with pytest.raises(ArtifactInvalid, match=said):
            fetch(registry, source, digest, tmp_path / str(number))
        assert not list((tmp_path / str(number)).iterdir())


def test_index_of_several_manifests_is_refused_when_resolved(registry: RegistryProcess, tmp_path: Path) -> None:
    source, digest = pushed(registry, write_adapter(tmp_path / "adapter"), "indexed")
    kind = "application/vnd.oci.image.index.v1+json"
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1}
    text = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]})
    requests.put(
        f"http://{registry.host}/v2/indexed/manifests/many", data=text, headers={"Content-Type": kind}, timeout=30
    ).raise_for_status()
    with pytest.raises(ArtifactInvalid, match="index"):
        oci.resolve(source, "many", None, key=None, access=access(registry))


def test_folder_with_more_than_data_is_not_pushed(registry: RegistryProcess, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter")
    (folder / "train.py").write_text("print()")
    with pytest.raises(ArtifactInvalid, match="is code"):
        pushed(registry, folder, "code")


def docker_config(folder: Path, host: str, *, password: str = PASSWORD) -> Path:
    folder.mkdir(exist_ok=True)
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (folder / "registry").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return folder


def test_login_is_read_at_each_use(locked_registry: RegistryProcess, tmp_path: Path) -> None:
    login = Credentials({locked_registry.host: Login(USER, PASSWORD)})
    folder = write_adapter(tmp_path / "adapter")
    digest = push(folder, f"{locked_registry.host}/secret:v1", insecure=True, credentials=login)
    source, secrets = f"oci://{locked_registry.host}/secret", tmp_path / "secrets"
    secrets.mkdir()

    def resolve(key: str | None) -> str:
        return oci.resolve(source, "v1", None, key=key, access=access(locked_registry, secrets))

    with pytest.raises(CredentialsMissing, match="set credentialsKey"):
        resolve(None)
    with pytest.raises(CredentialsMissing, match="no entry 'registry'"):
        resolve("registry")
    docker_config(secrets, locked_registry.host, password="wrong")
    with pytest.raises(CredentialsMissing, match="refuses the login"):
        resolve("registry")
    docker_config(secrets, "other.example")
    with pytest.raises(CredentialsMissing, match="has nothing for"):
        resolve("registry")
    docker_config(secrets, locked_registry.host)
    assert resolve("registry") == digest
    (tmp_path / "got").mkdir()
    limits = FetchLimits(max_bytes=1_000_000)
    reached = access(locked_registry, secrets)
    oci.fetch(source, digest, tmp_path / "got", key="registry", access=reached, limits=limits, wanted=lora.FILES.__contains__)
    assert {path.name for path in (tmp_path / "got").iterdir()} == lora.FILES
