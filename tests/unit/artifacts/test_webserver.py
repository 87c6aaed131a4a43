"""Artifacts from a web server, over TLS."""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import pytest

from taskfleet.api.agent import ArtifactKind
from taskfleet.artifacts import base_model, fetching, lora, webserver
from taskfleet.artifacts.access import Access, FetchLimits
from taskfleet.artifacts.addresses import parse_networks
from taskfleet.artifacts.content_manifest import digest_of
from taskfleet.artifacts.errors import (
    ArtifactError,
    ArtifactInvalid,
    ArtifactNotFound,
    CredentialsMissing,
    DigestMismatch,
    SourceNotAllowed,
)
from taskfleet.artifacts.listing import Order
from tests.unit.artifacts.certificates import serving, trusting, write_certificate
from tests.unit.artifacts.local_server import Server, server
from tests.unit.artifacts.model_files import base_shapes, safetensors, write_adapter, write_base
from tests.unit.artifacts.web_folder import WebFolder

LIMITS = FetchLimits(max_bytes=1_000_000, max_files=32, seconds=30)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("tls"), names="DNS:models.example")


@dataclass
class World:
    """A web server with one folder, and an agent's way to it."""

    web: WebFolder
    running: Server
    access: Access
    folder: Path
    fetched: int = field(default=0)

    def order(
        self, kind: ArtifactKind = ArtifactKind.ADAPTER, version: str = "v1", key: str | None = None, path: str = "/models/total"
    ) -> Order:
        port = self.running.host.rpartition(":")[2]
        return Order(kind=kind, source=f"https://models.example:{port}{path}", version=version, credentials_key=key)

    def publish(self, folder: Path, at: str = "/models/total/v1") -> None:
        self.web.files = {f"{at}/{path.name}": path.read_bytes() for path in folder.iterdir()}

    def fetch(self, order: Order | None = None) -> Path:
        self.fetched += 1
        into = self.folder / f"got-{self.fetched}"
        into.mkdir()
        self.manifest = fetching.fetch_files(order or self.order(), into, access=self.access, limits=LIMITS)
        return into

    def asked(self) -> set[str]:
        return {path.rpartition("/")[2] for path, _ in self.web.ranges}


@pytest.fixture
def world(certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("taskfleet.artifacts.download.PAUSE_SECONDS", 0.001)
    web = WebFolder()
    (tmp_path / "secrets").mkdir()
    access = Access(
        credentials_directory=tmp_path / "secrets",
        allowed_networks=parse_networks("127.0.0.0/8"),
        tls=trusting(certificate),
        lookup=lambda _host, _port: [ip_address("127.0.0.1")],
    )
    with server(lambda request: web.answer(request), tls=serving(certificate)) as running:  # noqa: PLW0108  (tests put another in its place)
        yield World(web, running, access, tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_adapter_is_its_two_files_below_source_and_version(world: World, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter")
    world.publish(folder)
    assert contents(world.fetch()) == contents(folder)
    assert world.asked() == lora.FILES


def test_base_is_found_by_the_usual_names(world: World, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    (folder / "tokenizer_config.json").write_text("{}")
    world.publish(folder)
    got = world.fetch(world.order(ArtifactKind.BASE))
    assert contents(got) == contents(folder)
    base_model.verify(got)


@pytest.mark.parametrize(("missing", "takes_head"), [(403, True), (404, False)])
def test_servers_that_hide_what_they_lack_or_know_no_head_do_as_well(
    world: World, tmp_path: Path, missing: int, *, takes_head: bool
) -> None:
    folder = write_base(tmp_path / "base")
    world.publish(folder)
    world.web.missing, world.web.takes_head = missing, takes_head
    assert contents(world.fetch(world.order(ArtifactKind.BASE))) == contents(folder)


def test_base_of_several_shards_is_read_by_its_index(world: World, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    (folder / "model.safetensors").unlink()
    shapes, index = base_shapes(), {}
    for number, name in enumerate(shapes):
        shard = f"model-{number:05}.safetensors"
        (folder / shard).write_bytes(safetensors({name: shapes[name]}))
        index[name] = shard
    (folder / base_model.INDEX).write_text(json.dumps({"weight_map": index}))
    world.publish(folder)
    got = world.fetch(world.order(ArtifactKind.BASE))
    assert contents(got) == contents(folder)
    base_model.verify(got)


def sums(folder: Path) -> bytes:
    printed = subprocess.run(["sh", "-c", "LC_ALL=C sha256sum *"], cwd=folder, capture_output=True, check=True)
    return printed.stdout


def test_sums_name_the_files_of_a_base_and_are_its_manifest(world: World, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    (folder / "unusual_name.json").write_text("{}")
    text = sums(folder)
    (folder / webserver.SUMS).write_bytes(text)
    world.publish(folder)
    got = world.fetch(world.order(ArtifactKind.BASE))
    assert contents(got) == {name: content for name, content in contents(folder).items() if name != webserver.SUMS}
    assert world.manifest == text


def test_file_that_is_not_what_the_sums_say_is_refused(world: World, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    (folder / webserver.SUMS).write_bytes(sums(folder))
    (folder / "tokenizer.json").write_text('{"other": 1}')
    world.publish(folder)
    with pytest.raises(DigestMismatch, match=r"tokenizer\.json"):
        world.fetch(world.order(ArtifactKind.BASE))


@pytest.mark.parametrize("text", ["", "nonsense\n", "abc  name\n", "[" * 1000, "0" * 64 + "  a b\n", ("0" * 64 + "  a.json\n") * 2001])
def test_sums_that_are_none_are_refused(world: World, tmp_path: Path, text: str) -> None:
    folder = write_base(tmp_path / "base")
    (folder / webserver.SUMS).write_text(text)
    world.publish(folder)
    with pytest.raises(ArtifactInvalid, match=webserver.SUMS):
        world.fetch(world.order(ArtifactKind.BASE))


def test_names_that_lead_elsewhere_are_never_asked_for(world: World, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    hostile = (
        "../../secret.json",
        "/etc/passwd",
        "a/b.json",
        "..",
        "pytorch_model.bin",
        "x.py",
        "?x.json",
        "%2e%2e%2fsecret.json",
        "a\\b.json",
        ".hidden.json",
    )
    text = sums(folder).decode() + "".join(f"{'0' * 64}  {name}\n" for name in hostile)
    (folder / webserver.SUMS).write_text(text)
    world.publish(folder)
    got = contents(world.fetch(world.order(ArtifactKind.BASE)))
    assert got.keys() == {path.name for path in folder.iterdir()} - {webserver.SUMS}
    assert world.asked() == got.keys() | {webserver.SUMS}
    (folder / webserver.SUMS).unlink()
    (folder / base_model.INDEX).write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors", "b": "model.safetensors"}}))
    world.publish(folder)
    assert "secret.safetensors" not in contents(world.fetch(world.order(ArtifactKind.BASE)))


@pytest.mark.parametrize("index", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', "[" * 100_000, "no json"])
def test_index_that_is_none_is_refused(world: World, tmp_path: Path, index: str) -> None:
    folder = write_base(tmp_path / "base")
    (folder / base_model.INDEX).write_text(index)
    world.publish(folder)
    with pytest.raises(ArtifactInvalid, match="weight_map"):
        world.fetch(world.order(ArtifactKind.BASE))


def test_version_that_ends_with_tar_is_one_tar_with_the_same_digest(world: World, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter")
    world.publish(folder)
    world.fetch()
    as_files, packed = world.manifest, io.BytesIO()
    (folder / "README.md").write_text("beside")
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(folder, arcname=".")
    world.web.files = {"/models/total/v1.tar": packed.getvalue()}
    assert contents(world.fetch(world.order(version="v1.tar"))).keys() == lora.FILES
    assert world.manifest == as_files


def test_what_is_not_there_is_told_with_host_and_file(world: World) -> None:
    with pytest.raises(ArtifactNotFound, match=r"models\.example:\d+ has no file adapter_config\.json of version v1"):
        world.fetch()
    with pytest.raises(ArtifactNotFound, match=r"config\.json"):
        world.fetch(world.order(ArtifactKind.BASE))


def test_swap_under_the_same_version_is_noticed(world: World, tmp_path: Path) -> None:
    world.publish(write_adapter(tmp_path / "adapter", rank=4))
    world.fetch()
    digest = digest_of(world.manifest)
    world.publish(write_adapter(tmp_path / "adapter", rank=2))
    (tmp_path / "again").mkdir()
    with pytest.raises(DigestMismatch, match="version v1"):
        fetching.fetch(world.order(), digest, tmp_path / "again", access=world.access, limits=LIMITS)


def secret(world: World, **content: object) -> None:
    (world.access.credentials_directory / "key").write_text(json.dumps(content))


def test_token_is_read_for_each_request_and_is_for_its_host_only(world: World, tmp_path: Path) -> None:
    world.publish(write_adapter(tmp_path / "adapter"))
    world.web.token = "wholly-secret"
    port = world.running.host.rpartition(":")[2]
    order = world.order(key="key")
    with pytest.raises(CredentialsMissing, match="set credentialsKey"):
        world.fetch()
    with pytest.raises(CredentialsMissing, match="no entry 'key'"):
        world.fetch(order)
    seen = len(world.running.seen)
    secret(world, host="other.example", token="wholly-secret")
    with pytest.raises(CredentialsMissing, match=r"has nothing for models\.example"):
        world.fetch(order)
    assert len(world.running.seen) == seen, "nothing is asked with another host's token"
    secret(world, host=f"models.example:{port}", token="wrong-secret")
    with pytest.raises(CredentialsMissing, match="401") as refusal:
        world.fetch(order)
    assert "secret" not in str(refusal.value).replace("Secret taskfleet-credentials", "")
    secret(world, host=f"models.example:{port}", token="wholly-secret")
    assert contents(world.fetch(order)).keys() == lora.FILES


def test_compressed_file_is_refused_and_never_unpacked(world: World, tmp_path: Path) -> None:
    world.publish(write_adapter(tmp_path / "adapter"))
    world.web.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(ArtifactInvalid, match="compressed"):
        world.fetch()


@pytest.mark.parametrize(
    ("etags", "takes_ranges", "second"), [(True, True, "bytes=500-"), (True, False, "bytes=500-"), (False, True, None)]
)
def test_broken_download_goes_on_where_the_server_can_and_begins_anew_where_it_cannot(
    world: World, tmp_path: Path, *, etags: bool, takes_ranges: bool, second: str | None
) -> None:
    folder = write_adapter(tmp_path / "adapter")
    world.publish(folder)
    world.web.etags, world.web.takes_ranges = etags, takes_ranges
    world.web.breaks = [10**6, 500]
    assert contents(world.fetch()) == contents(folder)
    weights = [asked for path, asked in world.web.ranges if path.endswith(lora.WEIGHTS)]
    assert weights == [None, second]


def test_other_bytes_since_the_break_are_begun_anew(world: World, tmp_path: Path) -> None:
    old, new = write_adapter(tmp_path / "old", rank=4), write_adapter(tmp_path / "new", rank=2)
    world.publish(old)
    world.web.breaks = [10**6, 500]
    original = world.web.answer

    def swapping(request: object) -> tuple[int, dict[str, str], bytes]:
        if len(world.web.ranges) == 2:
            world.publish(new)
        return original(request)  # type: ignore[arg-type]

    world.web.answer = swapping  # type: ignore[method-assign]
    assert contents(world.fetch())[lora.WEIGHTS] == contents(new)[lora.WEIGHTS]
    assert [asked for path, asked in world.web.ranges if path.endswith(lora.WEIGHTS)] == [None, "bytes=500-"]


def test_source_inside_the_cluster_is_not_asked(world: World, certificate: Path) -> None:
    world.access = Access(credentials_directory=Path(), tls=world.access.tls, lookup=lambda _host, _port: [ip_address("10.96.0.1")])
    with pytest.raises(SourceNotAllowed, match=r"models\.example is at a private address"):
        world.fetch()
    assert world.running.seen == []


def test_all_that_goes_wrong_is_an_artifact_error(world: World) -> None:
    world.web.missing = 500
    with pytest.raises(ArtifactError, match="HTTP 500"):
        world.fetch()
