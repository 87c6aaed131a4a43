"""A pool's pod without a cluster: a real agent and a real engine as processes, sharing folders as their containers do."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from taskfleet.api.agent import (
    DESIRED_KEY,
    DESIRED_PATH,
    METRICS_PATH,
    READY_PATH,
    STATE_PATH,
    TRUST_KEY,
    AdapterPhase,
    AgentState,
    DesiredAdapter,
    DesiredState,
    Limits,
    PoolIdentity,
)
from taskfleet.api.taskmodel import Adapter, Base
from taskfleet.artifacts.push import push
from taskfleet.names import PEER_TOKEN_FILE, engine_name
from tests.engine import issuer, running
from tests.engine.waiting import until
from tests.unit.artifacts.registry_process import RegistryProcess

NAMESPACE = "finance"
UID = "0b7c3c5e-0000-4000-8000-000000000001"
WAIT = 60.0  # seconds; the machine may be busy with other tests


@dataclass
class Pod:
    """Folders, ports and processes. Everything that a test changes about the desired document goes through `want`."""

    folder: Path
    registry: RegistryProcess
    session: aiohttp.ClientSession
    drain_seconds: float = 30.0
    engine_kind: str = "simulator"
    engine_arguments: tuple[str, ...] = ()
    uid: str = UID
    serve_base: bool = False
    generation: int = 1
    adapters: list[DesiredAdapter] = field(default_factory=list)
    base_digest: str | None = None
    linger_seconds: float = 0.0
    peers: tuple[str, ...] = ()  # addresses of other pods of the pool, which DNS would give in a cluster
    port: int = field(default_factory=running.free_port)
    engine_port: int = field(default_factory=running.free_port)
    agent: subprocess.Popen[bytes] | None = None
    engine: running.RunningEngine | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def engine_url(self) -> str:
        return f"http://127.0.0.1:{self.engine_port}"

    def path(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def push_base(self, folder: Path) -> None:
        self.base_digest = push(folder, f"{self.registry.host}/base:v1", insecure=True)

    def adapter(self, folder: Path, task: str, version: str = "v1") -> DesiredAdapter:
        """Pushes a folder as the adapter of a task, ready to be wanted."""
        digest = push(folder, f"{self.registry.host}/{task}:{version}", insecure=True)
        return self.adapter_at(task, version, digest)

    def adapter_at(self, task: str, version: str, digest: str, host: str | None = None) -> DesiredAdapter:
        source = f"oci://{host or self.registry.host}/{task}"
        adapter = Adapter(source=source, version=version, digest=digest)
        return DesiredAdapter(engine_name=engine_name(NAMESPACE, task, digest), revision=f"{task}-{version}", adapter=adapter)

    def document(self) -> DesiredState:
        return DesiredState(
            pool=PoolIdentity(namespace=NAMESPACE, name="tiny", uid=self.uid),
            generation=self.generation,
            base=Base(source=f"oci://{self.registry.host}/base", revision="v1"),
            base_digest=self.base_digest,
            served_base_name=running.BASE_NAME,
            serve_base=self.serve_base,
            limits=Limits(max_rank=8, max_adapter_bytes=4_000_000, max_base_bytes=40_000_000),
            adapters=tuple(self.adapters),
        )

    def mount(self) -> None:
        """Writes the files of the ConfigMap and the pod's token for its peers, each by one rename, as the kubelet does."""
        files = {
            DESIRED_KEY: json.dumps(self.document().to_json()),
            TRUST_KEY: json.dumps(issuer.trust().to_json()),
        }
        # Without it nobody is looked for, or the machine's own DNS would be asked for a Service.
        if self.peers:
            files[PEER_TOKEN_FILE] = issuer.token(self.uid, issuer.PEER)
        for name, content in files.items():
            beside = self.path("pool") / f".{name}"
            beside.write_text(content)
            beside.replace(self.path("pool") / name)

    def start_agent(self) -> None:
        variables = {
            "POD_NAME": "tiny-0",
            "POD_IP": "127.0.0.1",
            "LISTEN_PORT": str(self.port),
            "ENGINE_PORT": str(self.engine_port),
            "STORE": str(self.path("store")),
            "RUN": str(self.path("run")),
            "POOL_DIR": str(self.path("pool")),
            "CREDENTIALS_DIR": str(self.path("credentials")),
            "DRAIN_SECONDS": str(self.drain_seconds),
            "INSECURE_REGISTRIES": self.registry.host,
            "LINGER_SECONDS": str(self.linger_seconds),
            "PEERS": ",".join(self.peers),
            "ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        environment = {**os.environ, **{f"TASKFLEET_{name}": value for name, value in variables.items()}}
        with (self.folder / "agent.log").open("ab") as log:
            program = str(Path(sys.executable).parent / "taskfleet")
            self.agent = subprocess.Popen([program, "agent", "run"], env=environment, stdout=log, stderr=log)

    async def start_engine(self) -> None:
        """After the base is staged, as the init container sees to it."""
        await until(self._base_is_ready, limit=WAIT)
        settings = running.settings(
            self.path("store") / "adapters",
            port=self.engine_port,
            model_path=str(self.path("store") / "base" / "current"),
            max_loras=4,
            max_cpu_loras=8,
        )
        self.engine = await asyncio.to_thread(running.start, self.engine_kind, self.folder, settings, *self.engine_arguments)

    async def _base_is_ready(self) -> bool:
        return (self.path("run") / "base-ready").exists()

    async def want(self, *adapters: DesiredAdapter) -> AgentState:
        """Makes these the desired adapters by PUT, as a new generation."""
        self.adapters = list(adapters)
        self.generation += 1
        async with self.put(self.document()) as answer:
            assert answer.status == 200, await answer.text()
            return AgentState.model_validate(await answer.json())

    @asynccontextmanager
    async def put(self, document: DesiredState) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self.session.put(self.url + DESIRED_PATH, json=document.to_json(), headers=self.as_operator()) as answer:
            yield answer

    async def state(self, query: str = "") -> AgentState:
        async with self.session.get(self.url + STATE_PATH + query, headers=self.as_operator()) as answer:
            assert answer.status == 200, await answer.text()
            return AgentState.model_validate(await answer.json())

    async def phases(self) -> dict[str, AdapterPhase]:
        return {report.revision: report.phase for report in (await self.state()).adapters}

    async def reach(self, expected: dict[str, AdapterPhase], *, limit: float = WAIT) -> AgentState:
        """Waits until the adapters, by revision, are exactly in these phases."""

        async def reached() -> bool:
            return await self.phases() == expected

        try:
            await until(reached, limit=limit)
        except TimeoutError:
            raise AssertionError(f"expected {expected}, the agent says {await self.state()}\n{self.log()}") from None
        return await self.state()

    async def ready(self) -> bool:
        return await self._answers_ok(READY_PATH)

    async def up(self) -> bool:
        """The agent itself answers, and not only the door, which is open before."""
        return await self._answers_ok(METRICS_PATH)

    async def _answers_ok(self, path: str) -> bool:
        try:
            async with self.session.get(self.url + path) as answer:
                return answer.status == 200
        except aiohttp.ClientConnectionError:
            return False

    async def ask(self, model: str, token: str | None = None, **more: Any) -> tuple[int, dict[str, Any]]:
        """One completion as the gateway asks for it: the status and the body."""
        body = {"model": model, "prompt": "from Wonka Ltd", "max_tokens": 32, **more}
        async with self.session.post(self.url + "/v1/completions", json=body, headers=self.as_gateway(token)) as answer:
            return answer.status, await answer.json()

    async def fault(self, **faults: object) -> None:
        """Trouble on demand, told to the simulator behind the agent's back."""
        async with self.session.post(self.engine_url + "/sim/faults", json=faults) as answer:
            assert answer.status == 200

    async def listed(self) -> set[str]:
        """What the engine itself says it has."""
        async with self.session.get(self.engine_url + "/v1/models") as answer:
            return {model["id"] for model in (await answer.json())["data"]}

    def as_operator(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {issuer.token(self.uid, issuer.OPERATOR)}"}

    def as_peer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {issuer.token(self.uid, issuer.PEER)}"}

    def as_gateway(self, token: str | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {token or issuer.token(self.uid)}"}

    def staged(self) -> set[str]:
        """Digests of adapters in the store."""
        return {path.name.replace("-", ":") for path in (self.path("store") / "adapters").glob("sha256-*")}

    def log(self) -> str:
        return (self.folder / "agent.log").read_text(errors="replace")[-6000:]

    def stop(self) -> None:
        if self.engine is not None:
            self.engine.stop()
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait(30)


@asynccontextmanager
async def running_pod(
    folder: Path, registry: RegistryProcess, base: Path | None, *, engine: bool = True, **settings: Any
) -> AsyncIterator[Pod]:
    """A pod whose agent is up, and its engine on the staged base. `base` None: the settings have the digest of one that was pushed already."""
    async with aiohttp.ClientSession() as session:
        pod = Pod(folder=folder, registry=registry, session=session, **settings)
        try:
            if base is not None:
                pod.push_base(base)
            pod.mount()
            pod.start_agent()
            await until(pod.up, limit=WAIT)
            if engine:
                await pod.start_engine()
                await until(pod.ready, limit=WAIT)
            yield pod
        finally:
            pod.stop()
