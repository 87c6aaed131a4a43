"""The chart's values and templates, as far as they can be judged without Helm."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from taskfleet.controller.settings import OperatorSettings
from taskfleet.gateway.settings import GatewaySettings
from taskfleet.settings import Settings
from tests.released.last import last_release

CHART = Path(__file__).parents[3] / "charts/taskfleet"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())


def environment(template: str) -> set[str]:
    """The TASKFLEET_* variables that a template sets."""
    return set(re.findall(r"\{name: (TASKFLEET_[A-Z_]+)", (CHART / "templates" / template).read_text()))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from leaves(part, f"{path}.{key}".removeprefix("."))
    else:
        yield path, value


def described(schema: dict[str, Any], path: list[str]) -> bool:
    if not path:
        return True
    schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if path[0] in schema.get("properties", {}):
        return described(schema["properties"][path[0]], path[1:])
    return isinstance(schema.get("additionalProperties"), dict)


def test_the_schema_is_a_schema_and_the_values_follow_it() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.Draft7Validator(SCHEMA).validate(VALUES)


def test_every_value_is_described_by_the_schema() -> None:
    for path, _ in leaves(VALUES):
        assert described(SCHEMA, path.split(".")), path


def new_values() -> dict[str, Any]:
    """Paths and defaults of values that the last release's chart has not."""
    released = dict(leaves(yaml.safe_load((last_release().chart / "values.yaml").read_text())))
    return {path: value for path, value in leaves(VALUES) if path not in released}


def test_templates_do_without_values_that_are_new() -> None:
    """`helm upgrade --reuse-values` brings the older chart's values, and none of this one's defaults."""
    text = "\n".join(path.read_text() for path in sorted((CHART / "templates").iterdir()))
    for path, default in new_values().items():
        *_, part, name = path.split(".")
        assert not re.search(rf"\.{part}\.{name}\b", text), f"{path} is read by its path: use `dig`"
        written = json.dumps(default)
        found = set(re.findall(rf'dig "{name}" (\S+) ', text))
        assert found <= {written}, f"{path} is {written}, and a template takes {found} where it is missing"


def objects_of(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield path, schema
        for key, part in schema.items():
            yield from objects_of(part, f"{path}/{key}")


def test_the_schema_refuses_what_it_does_not_know() -> None:
    for path, schema in objects_of(SCHEMA):
        assert schema.get("additionalProperties") is False, path


def names_of(schema: dict[str, Any]) -> Iterator[str]:
    for name, part in schema.get("properties", {}).items():
        if "properties" in part:
            yield from names_of(part)
        elif name != "global":
            yield name


def test_every_value_is_used_by_a_template() -> None:
    text = "\n".join(path.read_text() for path in sorted((CHART / "templates").iterdir()))
    unused = [name for name in names_of(SCHEMA) if not re.search(rf'\.{name}\b|dig "{name}" ', text)]
    assert not unused


@pytest.mark.parametrize(
    ("template", "settings"), [("gateway-deployment.yaml", GatewaySettings), ("operator-deployment.yaml", OperatorSettings)]
)
def test_what_a_part_is_told_are_settings_that_it_has(template: str, settings: type[Settings]) -> None:
    known = {f"TASKFLEET_{name.upper()}" for name in settings.model_fields}
    required = {f"TASKFLEET_{name.upper()}" for name, field in settings.model_fields.items() if field.is_required()}
    assert required <= environment(template) <= known


@pytest.mark.parametrize(
    ("value", "setting"),
    [
        ("limits.maxBodyBytes", "max_body_bytes"),
        ("limits.maxConnections", "max_connections"),
        ("limits.maxBufferedBodyBytes", "max_buffered_body_bytes"),
        ("limits.maxOpenPerTenant", "max_open_per_tenant"),
        ("limits.maxHeldPerNamespace", "max_held_per_namespace"),
        ("limits.maxOpenRequests", "max_open_requests"),
        ("limits.maxHeldRequests", "max_held_requests"),
        ("limits.maxHeldPerTask", "max_held_per_task"),
        ("timeouts.header", "header_timeout_seconds"),
        ("timeouts.body", "body_timeout_seconds"),
        ("timeouts.idle", "idle_timeout_seconds"),
        ("timeouts.stall", "stall_timeout_seconds"),
        ("feedback.lifetime", "feedback_lifetime_seconds"),
        ("feedback.perMinute", "feedback_per_minute"),
        ("tracing.endpoint", "otlp_endpoint"),
        ("tracing.samplePercent", "trace_sample_percent"),
        ("timeouts.hold", "hold_seconds"),
        ("timeouts.connect", "connect_timeout_seconds"),
        ("timeouts.firstByte", "first_byte_timeout_seconds"),
        ("timeouts.request", "request_timeout_seconds"),
        ("termination.shutdownDelay", "shutdown_delay_seconds"),
        ("termination.drain", "drain_seconds"),
        ("auth.audience", "audience"),
        ("auth.mode", "auth_mode"),
    ],
)
def test_the_charts_defaults_are_the_gateways(value: str, setting: str) -> None:
    part, _, name = value.partition(".")
    assert VALUES["gateway"][part][name] == GatewaySettings.model_fields[setting].default


# Set by what the chart itself is made of: names in its RBAC, ports of its Services.
FIXED = {"TASKFLEET_LEASE_NAME", "TASKFLEET_GATEWAY_INTERNAL_PORT", "TASKFLEET_OPERATOR_NAMESPACE", "TASKFLEET_INTERNAL_AUDIENCE"}


@pytest.mark.parametrize(("part", "settings"), [("gateway", GatewaySettings), ("operator", OperatorSettings)])
def test_every_setting_can_be_set_by_a_value(part: str, settings: type[Settings]) -> None:
    known = {f"TASKFLEET_{name.upper()}" for name in settings.model_fields}
    by_name = set(SCHEMA["properties"][part]["properties"]["env"]["propertyNames"]["enum"])
    assert by_name == known - environment(f"{part}-deployment.yaml") - FIXED
