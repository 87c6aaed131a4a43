"""A real API server takes the children of a pool as they are built, and pods from their template under Pod Security `restricted`."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.apiserver.conftest import ApiServer
from tests.unit.planning.builders import serving_class
from tests.unit.resources.pools import children_of, maximal

Object = dict[str, Any]

NEEDED_BY_MAXIMAL: tuple[Object, ...] = (
    {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "batch"}, "value": 1000},
    {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"},
)


@pytest.fixture
def restricted_namespace(api_server: ApiServer, new_namespace: Callable[[str], str]) -> Iterator[str]:
    name = new_namespace("children")
    api_server.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    for needed in NEEDED_BY_MAXIMAL:
        api_server.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(needed))
    yield name
    for needed in NEEDED_BY_MAXIMAL:
        api_server.kubectl("delete", needed["kind"], needed["metadata"]["name"])


def in_namespace(child: Object, namespace: str) -> Object:
    """The same child elsewhere, without its owner: a garbage collector would miss it and take the child."""
    metadata = {**child["metadata"], "namespace": namespace}
    del metadata["ownerReferences"]
    return {**child, "metadata": metadata}


@pytest.mark.parametrize("the_class", [serving_class(), maximal()], ids=["minimal", "maximal"])
def test_api_server_takes_all_children_and_keeps_every_field(api_server: ApiServer, restricted_namespace: str, the_class: Any) -> None:
    for child in children_of(the_class):
        applied = in_namespace(child, restricted_namespace)
        text = api_server.kubectl(
            "apply", "--server-side", "--field-manager=taskfleet-operator", "-o", "json", "-f", "-", stdin=json.dumps(applied)
        )
        assert lost(applied, json.loads(text)) == []


@pytest.mark.parametrize("the_class", [serving_class(), maximal()], ids=["minimal", "maximal"])
def test_pods_are_admitted_where_pod_security_is_restricted(api_server: ApiServer, restricted_namespace: str, the_class: Any) -> None:
    made = children_of(the_class)
    account = in_namespace(made.service_account, restricted_namespace)
    api_server.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(account))
    template = made.deployment["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": "pod", "namespace": restricted_namespace}}
    text = api_server.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps({**pod, "spec": template["spec"]}))
    admitted = json.loads(text)
    assert [one["name"] for one in admitted["spec"]["initContainers"]] == ["agent", "base"]
    # Neither a token nor a volume was put in by anyone.
    assert len(admitted["spec"]["volumes"]) == len(template["spec"]["volumes"])


def test_applying_the_same_children_again_changes_nothing(api_server: ApiServer, restricted_namespace: str) -> None:
    versions = []
    for _ in range(2):
        found = []
        for child in children_of(maximal()):
            text = api_server.kubectl(
                "apply",
                "--server-side",
                "--field-manager=taskfleet-operator",
                "-o",
                "json",
                "-f",
                "-",
                stdin=json.dumps(in_namespace(child, restricted_namespace)),
            )
            metadata = json.loads(text)["metadata"]
            # A controller may write the status meanwhile; the generation counts changes of the spec only.
            found.append((metadata["uid"], metadata.get("generation")))
        versions.append(found)
    assert versions[0] == versions[1]


def lost(intent: Any, live: Any, path: str = "") -> list[str]:
    """Paths of what was applied and isn't there as it was applied."""
    if isinstance(intent, dict):
        if not isinstance(live, dict):
            return [path]
        return [where for key, value in intent.items() for where in lost(value, live.get(key), f"{path}.{key}")]
    if isinstance(intent, list):
        if not isinstance(live, list) or len(live) != len(intent):
            return [path]
        return [where for number, value in enumerate(intent) for where in lost(value, live[number], f"{path}[{number}]")]
    return [] if intent == live else [f"{path}: {intent!r} became {live!r}"]
