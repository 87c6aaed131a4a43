"""The pod's one open door: who is let in, to what, and how a pod goes without losing a request."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from taskfleet.api.agent import (
    DESIRED_PATH,
    DRAIN_PATH,
    FILE_PATH,
    MANIFEST_PATH,
    RESOLVE_PATH,
    STATE_PATH,
    UNDRAIN_PATH,
    AdapterPhase,
    AgentProblem,
    DesiredAdapter,
    DrainReply,
)
from tests.engine import issuer
from tests.engine.adapter_files import write_adapter
from tests.engine.agent_pod import WAIT, Pod, running_pod
from tests.engine.running import TINY_MODEL
from tests.engine.waiting import until
from tests.unit.artifacts.registry_process import RegistryProcess

INFERENCE = ("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/embeddings")


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod(tmp_path_factory: pytest.TempPathFactory, registry: RegistryProcess) -> AsyncIterator[Pod]:
    """One pod for all tests that leave it as they found it: starting one takes seconds."""
    async with running_pod(tmp_path_factory.mktemp("pod"), registry, TINY_MODEL / "base", drain_seconds=20.0) as pod:
        yield pod


@pytest_asyncio.fixture(loop_scope="module")
async def vendor(pod: Pod, tmp_path: Path) -> DesiredAdapter:
    """One proven adapter."""
    adapter = pod.adapter(write_adapter(tmp_path / "vendor"), "vendor")
    await pod.want(adapter)
    await pod.reach({"vendor-v1": AdapterPhase.PROVEN})
    return adapter


@pytest_asyncio.fixture(loop_scope="module")
async def doomed(tmp_path: Path, registry: RegistryProcess) -> AsyncIterator[tuple[Pod, DesiredAdapter]]:
    """A pod that the test may ruin, and its one proven adapter."""
    async with running_pod(tmp_path / "pod", registry, TINY_MODEL / "base") as pod:
        adapter = pod.adapter(write_adapter(tmp_path / "vendor"), "vendor")
        await pod.want(adapter)
        await pod.reach({"vendor-v1": AdapterPhase.PROVEN})
        yield pod, adapter


async def status(pod: Pod, method: str, path: str, headers: dict[str, str], body: object = None) -> int:
    async with pod.session.request(method, pod.url + path, headers=headers, json=body) as answer:
        await answer.read()
        return answer.status


async def test_every_door_is_closed_to_whoever_has_the_wrong_token(pod: Pod, vendor: DesiredAdapter) -> None:
    body = {"model": vendor.engine_name, "prompt": "x", "max_tokens": 1}
    operator, gateway, peer = (issuer.token(pod.uid, subject) for subject in (issuer.OPERATOR, issuer.GATEWAY, issuer.PEER))
    strangers = {
        "none": (None, 401),
        "for another pool": (issuer.token("another-pool", issuer.GATEWAY), 401),
        "for another pool, the operator's": (issuer.token("another-pool", issuer.OPERATOR), 401),
        "for another pool, its pods'": (issuer.token("another-pool", issuer.PEER), 401),
        "another pool's pods'": (issuer.token(pod.uid, "system:serviceaccount:finance:small"), 401),
        "a tenant's": (issuer.token(pod.uid, "system:serviceaccount:finance:default"), 401),
        "expired": (issuer.token(pod.uid, issuer.GATEWAY, exp=1_000_000_000), 401),
        "unsigned": (issuer.unsigned(issuer.claims(pod.uid, issuer.OPERATOR), kid="rsa"), 401),
    }
    doors = {("POST", path): gateway for path in INFERENCE}
    doors |= {("PUT", DESIRED_PATH): operator, ("GET", STATE_PATH): operator, ("POST", RESOLVE_PATH): operator}
    doors |= {("POST", DRAIN_PATH): operator, ("POST", UNDRAIN_PATH): operator}
    doors |= {("GET", path): peer for path in copies_of(vendor)}
    for (method, path), right in doors.items():
        for name, (token, expected) in strangers.items():
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            assert await status(pod, method, path, headers, body) == expected, f"{method} {path} with a token: {name}"
        # Each of the three is only let in where it belongs.
        for wrong in {operator, gateway, peer} - {right}:
            assert await status(pod, method, path, {"Authorization": f"Bearer {wrong}"}, body) == 403, f"{method} {path}"
    for path in copies_of(vendor):
        assert await status(pod, "GET", path, pod.as_peer()) == 200
    assert await status(pod, "POST", INFERENCE[0], {"Authorization": f"Bearer {gateway}"}, body) == 200
    assert (await pod.phases()) == {"vendor-v1": AdapterPhase.PROVEN}


def copies_of(adapter: DesiredAdapter) -> list[str]:
    """What the pool's other pods may ask for."""
    place = {"shelf": "adapters", "digest": adapter.adapter.digest}
    return [MANIFEST_PATH.format(**place), FILE_PATH.format(**place, file="adapter_model.safetensors")]


CLOSED = [
    ("POST", "/v1/load_lora_adapter"),
    ("POST", "/v1/unload_lora_adapter"),
    ("POST", "/adapters"),
    ("GET", "/v1/models"),
    ("GET", "/version"),
    ("GET", "/health"),
    ("POST", "/sim/faults"),
    ("POST", "/v1/completions/../unload_lora_adapter"),
    ("POST", "/v1/completions/%2e%2e/unload_lora_adapter"),
    ("POST", "//v1/completions"),
    ("GET", "/agent/v1/artifacts"),
    ("GET", "/agent/v1/artifacts/adapters"),
    ("GET", "/v1/responses/resp_1"),
    ("POST", "/v1/responses/resp_1/cancel"),
    ("POST", "/pooling"),
    ("GET", "/docs"),
    ("GET", "/"),
]


async def test_nothing_but_the_listed_routes_answers(pod: Pod, vendor: DesiredAdapter) -> None:
    for token in (issuer.OPERATOR, issuer.GATEWAY, issuer.PEER):
        headers = {"Authorization": f"Bearer {issuer.token(pod.uid, token)}"}
        for method, path in CLOSED:
            assert await status(pod, method, path, headers, {"lora_name": vendor.engine_name}) == 404, path
    assert vendor.engine_name in await pod.listed()
    own = copies_of(vendor)[1]
    for method, path in (("GET", INFERENCE[0]), ("POST", STATE_PATH), ("DELETE", DESIRED_PATH), ("PUT", own), ("DELETE", own)):
        assert await status(pod, method, path, pod.as_operator()) == 405


async def test_body_that_names_no_model_is_the_callers_fault(pod: Pod, vendor: DesiredAdapter) -> None:
    for body in (b"", b"no json", b"[]", b'{"model": 7}', b'{"prompt": "x"}', b"[" * 10_000, b'"' + b"x" * 100):
        async with pod.session.post(pod.url + INFERENCE[0], data=body, headers=pod.as_gateway()) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["code"] == "invalid_body"
    async with pod.session.post(pod.url + INFERENCE[0], data=io.BytesIO(b"x" * 40_000_000), headers=pod.as_gateway()) as answer:
        assert answer.status == 413


async def test_the_engines_own_refusal_is_passed_on_as_it_is(pod: Pod, vendor: DesiredAdapter) -> None:
    code, body = await pod.ask(vendor.engine_name, max_tokens=100_000)
    assert code == 400
    assert "maximum context length" in json.dumps(body)


async def test_failure_of_one_request_alone_is_passed_on_as_500(pod: Pod, vendor: DesiredAdapter) -> None:
    code, _ = await pod.ask(vendor.engine_name, sim={"code": 500})
    assert code == 500
    assert (await pod.ask(vendor.engine_name))[0] == 200


async def test_stream_comes_piece_by_piece_as_the_engine_makes_it(pod: Pod, vendor: DesiredAdapter) -> None:
    body = {"model": vendor.engine_name, "prompt": "x", "stream": True, "sim": {"token_ms": 200}}
    loop = asyncio.get_running_loop()
    arrivals: list[float] = []
    text = b""
    async with pod.session.post(pod.url + INFERENCE[0], json=body, headers=pod.as_gateway()) as answer:
        assert answer.content_type == "text/event-stream"
        async for chunk in answer.content.iter_any():
            arrivals.append(loop.time())
            text += chunk
    assert text.rstrip().endswith(b"data: [DONE]")
    # Ten tokens, 0.2 s apart: gathered into one piece they would all arrive at the end.
    assert arrivals[-1] - arrivals[0] > 1.0
    assert len(arrivals) >= 5


async def test_stream_that_the_engine_breaks_off_does_not_look_whole(pod: Pod, vendor: DesiredAdapter) -> None:
    body = {"model": vendor.engine_name, "prompt": "x", "stream": True, "sim": {"break_after": 2}}
    with pytest.raises(aiohttp.ClientError):
        async with pod.session.post(pod.url + INFERENCE[0], json=body, headers=pod.as_gateway()) as answer:
            await answer.read()
    await until(lambda: in_flight(pod, 0), limit=WAIT)


async def in_flight(pod: Pod, count: int) -> bool:
    return (await pod.state()).in_flight == count


async def test_requests_are_counted_exactly_also_when_their_clients_go_away(pod: Pod, vendor: DesiredAdapter) -> None:
    slow = {"token_ms": 5000}
    for stream in (False, True):
        asking = [asyncio.create_task(pod.ask(vendor.engine_name, stream=stream, sim=slow)) for _ in range(3)]
        await until(lambda: in_flight(pod, 3), limit=WAIT)
        assert {report.engine_name: report.in_flight for report in (await pod.state()).adapters} == {vendor.engine_name: 3}
        for task in asking[:2]:
            task.cancel()
        await until(lambda: in_flight(pod, 1), limit=WAIT)
        asking[2].cancel()
        await until(lambda: in_flight(pod, 0), limit=WAIT)
        await asyncio.gather(*asking, return_exceptions=True)


async def test_request_without_a_client_is_ended_in_the_engine_too(pod: Pod, vendor: DesiredAdapter) -> None:
    asking = asyncio.create_task(pod.ask(vendor.engine_name, sim={"token_ms": 60000}))
    await until(lambda: engine_runs(pod, 1), limit=WAIT)
    asking.cancel()
    await until(lambda: engine_runs(pod, 0), limit=WAIT)


async def engine_runs(pod: Pod, count: int) -> bool:
    async with pod.session.get(pod.engine_url + "/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:num_requests_running")] == [float(count)]


async def test_drain_lets_nothing_in_and_answers_when_the_last_request_has_ended(pod: Pod, vendor: DesiredAdapter) -> None:
    asking = asyncio.create_task(pod.ask(vendor.engine_name, sim={"token_ms": 400}))
    await until(lambda: in_flight(pod, 1), limit=WAIT)
    drained = pod.path("run") / "drained"
    (pod.path("run") / "drain").touch()
    await until(lambda: draining(pod), limit=WAIT)
    assert not drained.exists()
    assert not await pod.ready()
    assert (await pod.ask(vendor.engine_name))[0] == 421
    assert (await asking)[0] == 200

    async def answered() -> bool:
        return drained.exists()

    await until(answered, limit=WAIT)
    # Only the engine was restarted, as after failed liveness probes: the pod goes on.
    assert pod.engine is not None
    pod.engine.stop()
    await pod.start_engine()
    await until(pod.ready, limit=WAIT)
    assert not drained.exists()
    assert not (pod.path("run") / "drain").exists()
    assert (await pod.ask(vendor.engine_name))[0] == 200


async def draining(pod: Pod) -> bool:
    return (await pod.state()).draining


async def drain(pod: Pod, idle_seconds: float = 0.0, hold_seconds: float = 30.0) -> DrainReply:
    """Asks for it as the operator does before it scales the pool to zero."""
    body = {"idleSeconds": idle_seconds, "holdSeconds": hold_seconds}
    async with pod.session.post(pod.url + DRAIN_PATH, json=body, headers=pod.as_operator()) as answer:
        reply = DrainReply.model_validate(await answer.json())
        assert answer.status == (200 if reply.accepted else 409)
        return reply


async def undrain(pod: Pod) -> None:
    assert await status(pod, "POST", UNDRAIN_PATH, pod.as_operator()) == 200


async def test_idle_pod_is_drained_at_once_and_kept_at_once(pod: Pod, vendor: DesiredAdapter) -> None:
    await until(lambda: in_flight(pod, 0), limit=WAIT)
    assert (await drain(pod)).accepted
    code, body = await pod.ask(vendor.engine_name)
    assert (code, body["error"]["code"]) == (421, "not-here")
    assert await pod.ready(), "nothing of the pod is to change before the operator has written that it goes"
    assert (await drain(pod)).accepted, "it may be asked for longer"
    await undrain(pod)
    assert (await pod.ask(vendor.engine_name))[0] == 200


async def test_pod_in_use_is_not_drained_and_says_so(pod: Pod, vendor: DesiredAdapter) -> None:
    asking = asyncio.create_task(pod.ask(vendor.engine_name, sim={"token_ms": 400}))
    await until(lambda: in_flight(pod, 1), limit=WAIT)
    assert await drain(pod) == DrainReply(accepted=False, in_flight=1, idle_seconds=0)
    assert (await pod.ask(vendor.engine_name))[0] == 200, "a refused drain turns nobody away"
    assert (await asking)[0] == 200
    refused = await drain(pod, idle_seconds=3600)
    assert not refused.accepted
    assert 0 <= refused.idle_seconds < 3600
    absurd: list[object] = [{}, {"idleSeconds": -1}, {"idleSeconds": 1, "holdSeconds": 10_000}, []]
    for body in absurd:
        assert await status(pod, "POST", DRAIN_PATH, pod.as_operator(), body) == 400
    assert (await pod.ask(vendor.engine_name))[0] == 200


async def test_drain_of_an_operator_that_has_died_ends_by_itself(pod: Pod, vendor: DesiredAdapter) -> None:
    await until(lambda: in_flight(pod, 0), limit=WAIT)
    assert (await drain(pod, hold_seconds=1.0)).accepted

    async def serves() -> bool:
        return (await pod.ask(vendor.engine_name))[0] == 200

    await until(serves, limit=WAIT)


async def test_drain_at_the_pods_end_is_not_ended_by_an_operator_that_keeps_the_pod(pod: Pod, vendor: DesiredAdapter) -> None:
    (pod.path("run") / "drain").touch()
    await until(lambda: draining(pod), limit=WAIT)
    assert (await drain(pod)).accepted
    await undrain(pod)
    assert (await pod.ask(vendor.engine_name))[0] == 421
    # And the other way round: a new engine in the pod opens no pod that the operator was promised.
    assert (await drain(pod, hold_seconds=600)).accepted
    assert pod.engine is not None
    pod.engine.stop()
    await pod.start_engine()
    await until(pod.ready, limit=WAIT)
    await pod.reach({"vendor-v1": AdapterPhase.PROVEN})
    assert (await pod.ask(vendor.engine_name))[0] == 421
    await undrain(pod)
    assert (await pod.ask(vendor.engine_name))[0] == 200


async def test_of_many_requests_while_a_drain_is_asked_each_is_answered_or_sent_elsewhere(pod: Pod, vendor: DesiredAdapter) -> None:
    """The race that decides about scaling to zero: a request is counted and refuses the drain, or finds it accepted."""
    codes: Counter[int] = Counter()
    accepted, refused = 0, 0
    done = asyncio.Event()

    async def caller(number: int) -> None:
        while not done.is_set():
            code, _ = await pod.ask(vendor.engine_name, max_tokens=1)
            codes[code] += 1
            # Gaps of many lengths, so that the pod is idle for moments, and all of them end at different times.
            await asyncio.sleep(0.002 * (number % 7))

    callers = [asyncio.create_task(caller(number)) for number in range(3)]
    try:
        async with asyncio.timeout(WAIT):
            while accepted < 20 or refused < 20 or not codes[421]:
                if not (await drain(pod, hold_seconds=600)).accepted:
                    refused += 1
                    continue
                accepted += 1
                served = await answered(pod)
                for _ in range(3):
                    # Whatever came meanwhile was sent elsewhere before it was counted.
                    state = await pod.state()
                    assert state.in_flight == 0
                assert await answered(pod) == served, "nothing was let in"
                await undrain(pod)
    finally:
        done.set()
        await asyncio.gather(*callers)
        await undrain(pod)
    assert codes.keys() == {200, 421}
    assert codes[200] > refused / 10


async def answered(pod: Pod) -> float:
    """Requests that the agent has answered otherwise than by sending them elsewhere."""
    async with pod.session.get(pod.url + "/metrics") as answer:
        lines = [line for line in (await answer.text()).splitlines() if line.startswith("taskfleet_agent_requests_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if 'code="421"' not in line)


async def test_drain_does_not_wait_longer_than_it_may(tmp_path: Path, registry: RegistryProcess) -> None:
    async with running_pod(tmp_path / "pod", registry, TINY_MODEL / "base", drain_seconds=1.0) as pod:
        adapter = pod.adapter(write_adapter(tmp_path / "vendor"), "vendor")
        await pod.want(adapter)
        await pod.reach({"vendor-v1": AdapterPhase.PROVEN})
        asking = asyncio.create_task(pod.ask(adapter.engine_name, sim={"token_ms": 60000}))
        await until(lambda: in_flight(pod, 1), limit=WAIT)
        (pod.path("run") / "drain").touch()

        async def answered() -> bool:
            return (pod.path("run") / "drained").exists()

        await until(answered, limit=WAIT)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_agent_that_is_asked_to_end_finishes_what_is_in_flight_and_exits_cleanly(doomed: tuple[Pod, DesiredAdapter]) -> None:
    pod, vendor = doomed
    asking = asyncio.create_task(pod.ask(vendor.engine_name, sim={"token_ms": 300}))
    polling = asyncio.create_task(pod.state(f"?after={(await pod.state()).version + 1_000_000}&wait=60"))
    await until(lambda: in_flight(pod, 1), limit=WAIT)
    assert pod.agent is not None
    pod.agent.send_signal(signal.SIGTERM)
    assert (await asking)[0] == 200
    assert (await polling).draining
    assert await asyncio.to_thread(pod.agent.wait, WAIT) == 0


async def test_killed_engine_is_told_at_once_and_never_a_hang(doomed: tuple[Pod, DesiredAdapter]) -> None:
    pod, vendor = doomed
    asking = asyncio.create_task(pod.ask(vendor.engine_name, sim={"token_ms": 60000}))
    await until(lambda: in_flight(pod, 1), limit=WAIT)
    assert pod.engine is not None
    pod.engine.process.kill()
    code, body = await asyncio.wait_for(asking, WAIT)
    assert (code, body["error"]["code"]) == (502, "engine-failed")
    # A killed process takes connections until its last thread has ended, and breaks them off.
    await asyncio.to_thread(pod.engine.process.wait, WAIT)
    assert (await pod.ask(vendor.engine_name))[0] in {421, 503}, "nothing of this one has reached an engine"


async def test_engine_whose_core_has_died_is_told_apart_from_a_failing_request(doomed: tuple[Pod, DesiredAdapter]) -> None:
    pod, vendor = doomed
    assert pod.engine is not None
    asking = [asyncio.create_task(pod.ask(vendor.engine_name, sim={"token_ms": 60_000})) for _ in range(3)]
    await until(lambda: in_flight(pod, 3), limit=WAIT)
    os.kill(pod.engine.core_process(), signal.SIGKILL)
    # Those that it was working on, and those that come until it is known to be dead.
    codes = [(await task)[0] for task in asking]
    while (await pod.state()).engine.healthy:
        codes.append((await pod.ask(vendor.engine_name))[0])
    assert set(codes) <= {421, 502, 503}
    assert 502 in codes, "the engine had begun on these"


async def test_versions_are_resolved_for_the_operator(pod: Pod, vendor: DesiredAdapter) -> None:
    async def resolve(version: str, source: str | None = None) -> tuple[int, dict[str, object]]:
        body = {"kind": "Adapter", "source": source or f"oci://{pod.registry.host}/vendor", "version": version}
        async with pod.session.post(pod.url + RESOLVE_PATH, json=body, headers=pod.as_operator()) as answer:
            return answer.status, await answer.json()

    assert await resolve("v1") == (200, {"digest": vendor.adapter.digest})
    code, body = await resolve("v9")
    problem = AgentProblem.model_validate(body)
    assert (code, problem.reason, problem.permanent) == (404, "ArtifactNotFound", False)
    code, body = await resolve("v1", "oci://127.0.0.1:1/vendor")
    assert (code, AgentProblem.model_validate(body).reason) == (503, "SourceUnavailable")
    code, body = await resolve("v1", "ftp://host.example/model")
    assert (code, AgentProblem.model_validate(body).permanent) == (422, True)


async def test_documents_of_others_and_of_yesterday_are_refused(pod: Pod, vendor: DesiredAdapter) -> None:
    stale = pod.document().model_copy(update={"generation": pod.generation - 1, "adapters": ()})
    async with pod.put(stale) as answer:
        assert answer.status == 409
        assert not AgentProblem.model_validate(await answer.json()).permanent
    foreign = pod.document().model_copy(
        update={"generation": pod.generation + 9, "pool": pod.document().pool.model_copy(update={"uid": "other"})}
    )
    async with pod.put(foreign) as answer:
        assert answer.status == 409
    assert await status(pod, "PUT", DESIRED_PATH, pod.as_operator(), {"generation": "many"}) == 400
    assert (await pod.ask(vendor.engine_name))[0] == 200


async def test_state_names_the_document_in_force(pod: Pod, vendor: DesiredAdapter) -> None:
    """By its fingerprint, so that the operator sees whether limits have arrived that came without a new generation."""
    for rank in (4, 8):
        document = pod.document()
        limits = document.limits.model_copy(update={"max_rank": rank})
        async with pod.put(document.model_copy(update={"limits": limits, "fingerprint": f"rank {rank}"})) as answer:
            assert answer.status == 200
        state = await pod.state()
        assert (state.generation, state.fingerprint) == (pod.generation, f"rank {rank}")
    assert (await pod.ask(vendor.engine_name))[0] == 200


async def test_figures_hold_no_tenants_names(pod: Pod, vendor: DesiredAdapter) -> None:
    assert (await pod.ask(vendor.engine_name))[0] == 200
    async with pod.session.get(pod.url + "/metrics") as answer:
        text = await answer.text()
    assert 'taskfleet_agent_requests_total{code="200"}' in text
    assert 'taskfleet_agent_adapters{phase="Proven"} 1.0' in text
    assert "taskfleet_agent_engine_starts_total" in text
    assert "vendor" not in text


async def test_agent_listens_on_its_own_address_and_port_only(pod: Pod, vendor: DesiredAdapter) -> None:
    assert pod.agent is not None
    # Little-endian 127.0.0.1, which stands for the pod's address here.
    assert listening(pod.agent.pid) == [f"0100007F:{pod.port:04X}"]


def listening(process: int) -> list[str]:
    """Where a process listens, as the kernel writes it: address and port in hexadecimal."""
    links = [path.readlink() for path in Path(f"/proc/{process}/fd").iterdir()]
    sockets = {link.name for link in links if link.name.startswith("socket:")}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.append(fields[1])
    return found


async def test_await_base_returns_when_the_sign_is_there_and_ends_when_asked_to(tmp_path: Path) -> None:
    await asyncio.to_thread(check_await_base, tmp_path)


def check_await_base(tmp_path: Path) -> None:
    program = str(Path(sys.executable).parent / "taskfleet")
    environment = {**os.environ, "TASKFLEET_RUN": str(tmp_path)}
    waiting = subprocess.Popen([program, "agent", "await-base"], env=environment, stderr=subprocess.PIPE)
    assert waiting.stderr is not None
    assert b"waiting for the base" in waiting.stderr.readline()
    waiting.terminate()
    assert waiting.wait(WAIT) == 143
    (tmp_path / "base-ready").touch()
    subprocess.run([program, "agent", "await-base"], env=environment, check=True, timeout=WAIT, capture_output=True)
    waiting.stderr.close()
