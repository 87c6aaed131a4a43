"""Spans, as a collector gets them over OTLP/HTTP."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.unit.gateway.pods import Pod, hang, refusing
from tests.unit.gateway.waiting import until
from tests.unit.gateway.world import CHAT, MODEL, World, running

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRETS = ("the-secret-question", "the-secret-token", "one")  # `one` is a word of the pod's answer


@dataclass
class Collector:
    """What an OTLP receiver has received. All spans are there once the gateway has ended."""

    spans: list[Span] = field(default_factory=list)
    resource: dict[str, Any] = field(default_factory=dict)
    raw: bytes = b""
    endpoint: str = ""

    async def receive(self, request: web.Request) -> web.Response:
        self.raw += (content := await request.read())
        for resource in ExportTraceServiceRequest.FromString(content).resource_spans:
            self.resource = values(resource.resource.attributes)
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    def of_kind(self, kind: "Span.SpanKind.ValueType") -> list[Span]:
        return sorted((span for span in self.spans if span.kind == kind), key=lambda span: span.start_time_unix_nano)


def values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()


async def ask(world: World, **fields: Any) -> int:
    headers = {"x-request-id": "mine", "traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=b", "Authorization": f"Bearer {SECRETS[1]}"}
    async with world.post(messages=[{"role": "user", "content": SECRETS[0]}], headers=headers, **fields) as response:
        await response.read()
        code: int = response.status
        return code


async def test_span_of_a_request_stands_below_the_clients_and_above_the_pods() -> None:
    async with collecting() as collector:
        async with Pod("a", models={MODEL}) as pod, running(pod, otlp_endpoint=collector.endpoint) as world:
            assert await ask(world, stream=True) == 200
        (server,), (attempt,) = collector.of_kind(Span.SPAN_KIND_SERVER), collector.of_kind(Span.SPAN_KIND_CLIENT)
        assert (server.trace_id.hex(), server.parent_span_id.hex(), server.trace_state) == (TRACE, SPAN, "a=b")
        assert (attempt.trace_id.hex(), attempt.parent_span_id) == (TRACE, server.span_id)
        sent = pod.received[0].headers
        assert (sent["traceparent"], sent["tracestate"]) == (f"00-{TRACE}-{attempt.span_id.hex()}-01", "a=b")
        assert server.name == f"POST {CHAT}"
        told = values(server.attributes)
        assert told.pop("gen_ai.server.time_to_first_token") > 0
        assert told == {
            "http.request.method": "POST",
            "http.route": CHAT,
            "url.path": CHAT,
            "url.scheme": "http",
            "http.response.status_code": 200,
            "taskfleet.request_id": "mine",
            "taskfleet.stream": True,
            "gen_ai.request.model": "finance/vendor",
            "k8s.namespace.name": "finance",
            "gen_ai.usage.input_tokens": 7,
            "gen_ai.usage.output_tokens": 3,
        }
        assert values(attempt.attributes)["taskfleet.revision"] == "vendor-1"
        assert collector.resource["service.name"] == "taskfleet-gateway"
        for secret in SECRETS[:2]:
            assert secret.encode() not in collector.raw


async def test_every_attempt_and_every_refusal_has_its_span() -> None:
    async with collecting() as collector:
        async with (
            Pod("a", models={MODEL}, answer=refusing(503)) as down,
            Pod("b", models={MODEL}) as well,
            running(down, otlp_endpoint=collector.endpoint) as world,
        ):
            asked = asyncio.create_task(ask(world))
            await until(lambda: down.received)
            down.answer = well.answer
            assert await asked == 200
            assert await ask(world, model="finance/nothing") == 404
            async with world.client.get(world.url + "/made/up/by-the-client") as response:
                assert response.status == 404
        first, *_, last = collector.of_kind(Span.SPAN_KIND_CLIENT)
        assert values(first.attributes)["error.type"] == "unavailable"
        assert values(last.attributes)["http.response.status_code"] == 200
        assert values(last.attributes)["http.request.resend_count"] >= 1
        answered, missing = collector.of_kind(Span.SPAN_KIND_SERVER)
        assert values(answered.attributes)["taskfleet.held_seconds"] > 0
        # The name of what does not exist is the client's to choose, and so not in a span.
        assert values(missing.attributes)["http.response.status_code"] == 404
        assert b"nothing" not in collector.raw
        assert b"made/up" not in collector.raw


async def test_failures_and_clients_that_leave_are_marked() -> None:
    async with collecting() as collector:
        async with Pod("a", models={MODEL}, answer=hang) as pod, running(pod, otlp_endpoint=collector.endpoint) as world:
            leaving = asyncio.create_task(ask(world))
            await until(lambda: pod.received)
            leaving.cancel()
            await until(lambda: not world.gateway.api.open_requests)
            world.table.remove_slice("finance", "slice-1")
            async with world.post(headers={"x-taskfleet-timeout-seconds": "0.05"}) as response:
                assert response.status == 503
        left, failed = collector.of_kind(Span.SPAN_KIND_SERVER)
        assert values(left.attributes)["http.response.status_code"] == 499
        assert left.status.code == Status.STATUS_CODE_UNSET
        assert values(failed.attributes)["http.response.status_code"] == 503
        assert failed.status.code == Status.STATUS_CODE_ERROR


async def test_clients_decision_about_sampling_is_kept_and_passed_on() -> None:
    async with collecting() as collector:
        settings: dict[str, Any] = {"otlp_endpoint": collector.endpoint, "trace_sample_percent": 0}
        async with Pod("a", models={MODEL}) as pod, running(pod, **settings) as world:
            assert await ask(world) == 200
            for headers in ({"traceparent": f"00-{TRACE}-{SPAN}-00"}, {}):
                async with world.post(headers=headers) as response:
                    assert response.status == 200
        assert [span.trace_id.hex() for span in collector.of_kind(Span.SPAN_KIND_SERVER)] == [TRACE]
        asked, not_asked, own = (received.headers["traceparent"] for received in pod.received)
        assert asked.endswith("-01")
        assert not_asked.startswith(f"00-{TRACE}-")
        assert not_asked.endswith("-00")
        assert own.endswith("-00")


async def test_collector_that_is_away_fails_no_request() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod, otlp_endpoint="http://127.0.0.1:9") as world:
        assert [await ask(world) for _ in range(5)] == [200] * 5


def test_nothing_of_opentelemetry_is_loaded_while_spans_are_off() -> None:
    program = "import sys, taskfleet.gateway.main; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
