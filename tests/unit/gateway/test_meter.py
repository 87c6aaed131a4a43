"""Series exist for what exists, and no longer."""

from prometheus_client import CollectorRegistry, generate_latest

from taskfleet.gateway.meter import Meter
from taskfleet.gateway.stream import Usage

TASK = ("finance", "vendor")


def test_figures_are_kept_per_revision() -> None:
    registry = CollectorRegistry()
    meter = Meter(registry).of(TASK, "vendor-1")
    meter.ended(200, 0.3)
    meter.ended(200, 0.3)
    meter.used(Usage(7, 3))
    labels = {"namespace": "finance", "task_model": "vendor", "revision": "vendor-1"}
    assert registry.get_sample_value("taskfleet_gateway_requests_total", {**labels, "code": "200"}) == 2
    assert registry.get_sample_value("taskfleet_gateway_prompt_tokens_total", labels) == 7
    assert registry.get_sample_value("taskfleet_gateway_completion_tokens_total", labels) == 3
    assert registry.get_sample_value("taskfleet_gateway_request_duration_seconds_count", labels) == 2


def test_series_go_with_the_task_and_stay_gone() -> None:
    registry = CollectorRegistry()
    meters = Meter(registry)
    other, meter = meters.of(("legal", "vendor"), "vendor-9"), meters.of(TASK, "vendor-1")
    other.ended(200, 0.1)
    meter.ended(200, 0.1)
    meter.in_flight.inc()
    meters.forget_task(TASK)
    meter.in_flight.dec()
    meter.ended(502, 0.1)
    text = generate_latest(registry).decode()
    assert 'namespace="finance"' not in text
    assert 'namespace="legal"' in text


def test_series_go_with_the_revision() -> None:
    registry = CollectorRegistry()
    meters = Meter(registry)
    for name in ("vendor-1", "vendor-2"):
        meters.of(TASK, name).ended(200, 0.1)
    meters.forget_revision(TASK, "vendor-1")
    meters.forget_revision(TASK, "never-seen")
    text = generate_latest(registry).decode()
    assert "vendor-1" not in text
    assert "vendor-2" in text


def test_gauges_look_at_the_replica_when_scraped() -> None:
    registry = CollectorRegistry()
    held = [3]
    Meter(registry).observe(
        held=lambda: held[0], open_requests=lambda: 5, buffered=lambda: 0, task_models=lambda: 2, supervised=lambda: True
    )
    assert registry.get_sample_value("taskfleet_gateway_held_requests") == 3
    assert registry.get_sample_value("taskfleet_gateway_supervised") == 1
    held[0] = 0
    assert registry.get_sample_value("taskfleet_gateway_held_requests") == 0
