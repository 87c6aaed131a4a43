"""OpenTelemetry spans of requests, exported over OTLP/HTTP where the administrator wants them. While they are off nothing of OpenTelemetry is even imported.

One span per request and one below it per attempt at a pod, named and attributed by OpenTelemetry's conventions for HTTP and for generative AI. What was asked and answered
is never in them.
"""

import os
import time
from typing import TYPE_CHECKING

from taskfleet import __version__
from taskfleet.gateway.stream import Usage
from taskfleet.gateway.trace_context import TraceContext

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

EXPORT_PATH = "/v1/traces"
EXPORT_SECONDS = 5


class Tracing:
    """Makes spans. `sample` in [0, 1]: of the requests that bring no decision of their own."""

    def __init__(self, *, endpoint: str, sample: float) -> None:
        self._provider = _provider(endpoint, sample)
        self._tracer = self._provider.get_tracer("taskfleet.gateway", __version__)

    def request(self, method: str, path: str, parent: TraceContext | None) -> "RequestSpan":
        """The span of a request that has just arrived."""
        return RequestSpan(self._tracer, method, path, parent)

    def close(self) -> None:
        """Sends what is left; blocks for some seconds at most."""
        self._provider.shutdown()


class RequestSpan:
    """A request's. It ends once, with the status that the client got."""

    def __init__(self, tracer: "Tracer", method: str, path: str, parent: TraceContext | None) -> None:
        from opentelemetry.trace import SpanKind  # noqa: PLC0415  only where spans are wanted

        self._tracer = tracer
        self._began = time.monotonic()
        self._span = tracer.start_span(
            f"{method} {path}",
            context=_context(parent),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": path, "url.path": path, "url.scheme": "http"},
        )
        self._path = path
        self.status = 0  # where something else is known of it than the response tells

    def about(self, *, request_id: str, model: str, namespace: str, stream: bool) -> None:
        """What the request is for. `model` is a name that exists."""
        self._span.set_attributes(
            {
                "taskfleet.request_id": request_id,
                "gen_ai.request.model": model,
                "k8s.namespace.name": namespace,
                "taskfleet.stream": stream,
            }
        )

    def attempt(self, *, address: str, revision: str, number: int) -> "AttemptSpan":
        """One attempt at a pod, which ends by itself."""
        from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415

        host, _, port = address.rpartition(":")
        span = self._tracer.start_span(
            f"POST {self._path}",
            context=set_span_in_context(self._span),
            kind=SpanKind.CLIENT,
            attributes={
                "http.request.method": "POST",
                "server.address": host,
                "server.port": int(port),
                "taskfleet.revision": revision,
                "http.request.resend_count": number,
            },
        )
        return AttemptSpan(span)

    def first_byte(self) -> None:
        """A stream begins."""
        self._span.set_attribute("gen_ai.server.time_to_first_token", time.monotonic() - self._began)

    def used(self, usage: Usage) -> None:
        """What the answer has cost."""
        self._span.set_attributes({"gen_ai.usage.input_tokens": usage.prompt_tokens, "gen_ai.usage.output_tokens": usage.completion_tokens})

    def held(self, seconds: float, reason: str) -> None:
        """It has waited for a pod."""
        self._span.set_attributes({"taskfleet.held_seconds": seconds, "taskfleet.held_reason": reason})

    def end(self, status: int) -> None:
        """The answer is out, or the client is gone."""
        _end(self._span, self.status or status)


class AttemptSpan:
    """An attempt's."""

    def __init__(self, span: "Span") -> None:
        self._span = span

    @property
    def context(self) -> TraceContext:
        """What the pod is told, so that its spans stand below this one."""
        own = self._span.get_span_context()
        return TraceContext(f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags & 1:02x}", own.trace_state.to_header())

    def end(self, status: int, *, trouble: str = "") -> None:
        """The pod has answered, or nobody waits for it any more; `trouble`: another pod is tried."""
        if trouble:
            self._span.set_attribute("error.type", trouble)
            self._span.end()
        else:
            _end(self._span, status)


def _end(span: "Span", status: int) -> None:
    from opentelemetry.trace import StatusCode  # noqa: PLC0415

    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
    span.end()


def _context(parent: TraceContext | None) -> "Context":
    from opentelemetry.context import Context  # noqa: PLC0415
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context  # noqa: PLC0415

    if parent is None:
        return Context()
    _, trace_id, span_id, flags, *_ = parent.parent.split("-")
    remote = SpanContext(
        trace_id=int(trace_id, 16),
        span_id=int(span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(flags, 16) & TraceFlags.SAMPLED),
        trace_state=TraceState.from_header([parent.state] if parent.state else []),
    )
    return set_span_in_context(NonRecordingSpan(remote), Context())


def _provider(endpoint: str, sample: float) -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415

    attributes = {"service.name": "taskfleet-gateway", "service.version": __version__}
    if pod := os.environ.get("HOSTNAME"):
        attributes |= {"service.instance.id": pod, "k8s.pod.name": pod}
    # Signal handlers are the gateway's: it closes the provider itself, after its last answer.
    provider = TracerProvider(resource=Resource.create(attributes), sampler=ParentBasedTraceIdRatio(sample), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint.rstrip("/") + EXPORT_PATH, timeout=EXPORT_SECONDS)))
    return provider
