"""Adapters from a web server in a pod: a real agent, a server with TLS, and the simulator as the engine."""

import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from taskfleet.api.agent import RESOLVE_PATH, AdapterPhase, AdapterReport, DesiredAdapter
from taskfleet.api.taskmodel import Adapter
from taskfleet.artifacts import lora
from taskfleet.artifacts.content_manifest import content_manifest, digest_of
from taskfleet.artifacts.download import sha256_of
from taskfleet.names import engine_name
from tests.engine.adapter_files import write_adapter
from tests.engine.agent_pod import NAMESPACE, WAIT, Pod, running_pod
from tests.engine.running import TINY_MODEL
from tests.engine.waiting import until
from tests.unit.artifacts.certificates import serving, write_certificate
from tests.unit.artifacts.local_server import server
from tests.unit.artifacts.registry_process import running_registry
from tests.unit.artifacts.web_folder import WebFolder

PROVEN, FAILED, STAGING = AdapterPhase.PROVEN, AdapterPhase.FAILED, AdapterPhase.STAGING

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Web:
    """A web server at which adapters are published."""

    url: str
    folder: WebFolder
    tasks: dict[str, bytes] = field(default_factory=dict)

    def publish(self, folder: Path, task: str, version: str) -> None:
        self.tasks |= {f"/{task}/{version}/{path.name}": path.read_bytes() for path in folder.iterdir()}
        self.folder.files = self.tasks

    def adapter(self, task: str, version: str, digest: str, key: str | None = None) -> DesiredAdapter:
        adapter = Adapter(source=f"{self.url}/{task}", version=version, digest=digest, credentials_key=key)
        return DesiredAdapter(engine_name=engine_name(NAMESPACE, task, digest), revision=f"{task}-{version}", adapter=adapter)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("tls"), names="IP:127.0.0.1")


@pytest.fixture(scope="module")
def web(certificate: Path) -> Iterator[Web]:
    folder = WebFolder()
    with server(folder.answer, tls=serving(certificate)) as running:
        yield Web(f"https://{running.host}", folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> AsyncIterator[Pod]:
    # OpenSSL's own variable: the agent trusts the authorities that it names.
    os.environ["SSL_CERT_FILE"] = str(certificate / "cert.pem")
    try:
        with running_registry(tmp_path_factory.mktemp("registry")) as registry:
            async with running_pod(tmp_path_factory.mktemp("pod"), registry, TINY_MODEL / "base") as pod:
                yield pod
    finally:
        del os.environ["SSL_CERT_FILE"]


def digest(folder: Path) -> str:
    return digest_of(content_manifest({name: sha256_of(folder / name) for name in lora.FILES}))


async def resolve(pod: Pod, source: str, version: str) -> dict[str, object]:
    body = {"kind": "Adapter", "source": source, "version": version}
    async with pod.session.post(pod.url + RESOLVE_PATH, json=body, headers=pod.as_operator()) as answer:
        return dict(await answer.json())


async def reported(pod: Pod, revision: str, reason: str) -> AdapterReport:
    """The adapter's report, once it says so."""

    async def said() -> bool:
        return any(report.revision == revision and report.reason == reason for report in (await pod.state()).adapters)

    try:
        await until(said, limit=WAIT)
    except TimeoutError:
        raise AssertionError(f"{revision} is never {reason}: {await pod.state()}\n{pod.log()}") from None
    return next(report for report in (await pod.state()).adapters if report.revision == revision)


async def test_version_is_resolved_by_fetching_it_once_and_served(pod: Pod, web: Web, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "one", seed=1)
    web.publish(folder, "vendor", "v1")
    assert await resolve(pod, f"{web.url}/vendor", "v1") == {"digest": digest(folder)}
    vendor = web.adapter("vendor", "v1", digest(folder))
    asked = len(web.folder.ranges)
    await pod.want(vendor)
    await pod.reach({"vendor-v1": PROVEN})
    assert (await pod.ask(vendor.engine_name))[0] == 200
    assert len(web.folder.ranges) == asked == len(lora.FILES)


async def test_source_that_fails_says_why_disturbs_nobody_and_is_tried_again(pod: Pod, web: Web, tmp_path: Path) -> None:
    (vendor,) = pod.adapters
    folder = write_adapter(tmp_path / "date", seed=2)
    web.folder.missing = 500
    await pod.want(vendor, web.adapter("date", "v1", digest(folder)))
    report = await reported(pod, "date-v1", "SourceUnavailable")
    assert "127.0.0.1" in report.message
    assert "HTTP 500" in report.message
    assert (await pod.ask(vendor.engine_name))[0] == 200
    web.publish(folder, "date", "v1")
    await pod.reach({"vendor-v1": PROVEN, "date-v1": PROVEN})
    await pod.want(vendor)
    await pod.reach({"vendor-v1": PROVEN})


async def test_other_bytes_under_a_recorded_version_are_never_served(pod: Pod, web: Web, tmp_path: Path) -> None:
    (vendor,) = pod.adapters
    recorded, swapped = write_adapter(tmp_path / "recorded", seed=3), write_adapter(tmp_path / "swapped", seed=4)
    web.publish(swapped, "total", "v1")
    await pod.want(vendor, web.adapter("total", "v1", digest(recorded)))
    await pod.reach({"vendor-v1": PROVEN, "total-v1": FAILED})
    assert (await reported(pod, "total-v1", "DigestMismatch")).phase is FAILED
    assert digest(swapped) not in pod.staged()
    assert (await pod.ask(vendor.engine_name))[0] == 200
    await pod.want(vendor)
    await pod.reach({"vendor-v1": PROVEN})


async def test_addresses_of_the_cloud_and_of_neighbours_are_not_asked(pod: Pod) -> None:
    for source in (
        "https://169.254.169.254/latest",
        "https://10.96.0.1/api",
        "https://[::1]/x",
        "https://2130706433/x",
        "oci://192.168.1.1/x",
    ):
        problem = await resolve(pod, source, "v1")
        assert (problem["reason"], problem["permanent"]) == ("SourceNotAllowed", False), problem


async def test_token_comes_into_force_without_a_restart_and_shows_nowhere(pod: Pod, web: Web, tmp_path: Path) -> None:
    (vendor,) = pod.adapters
    folder = write_adapter(tmp_path / "iban", seed=5)
    web.publish(folder, "iban", "v1")
    web.folder.token = "wholly-secret"
    await pod.want(vendor, web.adapter("iban", "v1", digest(folder), key="web"))
    await reported(pod, "iban-v1", "CredentialsMissing")
    entry = {"host": web.url.removeprefix("https://"), "token": "wholly-secret"}
    (pod.path("credentials") / "web").write_text(json.dumps(entry))
    await pod.reach({"vendor-v1": PROVEN, "iban-v1": PROVEN})
    assert "wholly-secret" not in (pod.folder / "agent.log").read_text() + (await pod.state()).model_dump_json()
