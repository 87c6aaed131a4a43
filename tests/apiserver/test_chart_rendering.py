"""The chart with whatever values: it lints, renders, is accepted by an API server, and asks for no more rights than it says."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from taskfleet.names import FEEDBACK_SECRET
from tests.apiserver.chart import CASES, CHART, NAMESPACE, Case, arguments, pods_of, render, rules_of_roles
from tests.apiserver.conftest import ROOT, ApiServer, apply_definition
from tests.cluster.api import ApiError, Object
from tests.released.last import last_release

DEFAULT = CASES[0]


@pytest.fixture(scope="module", autouse=True)
def prepared(api_server: ApiServer) -> None:
    """The release's namespace, and the foreign kinds that the chart can use."""
    api_server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for kind in ("ServiceMonitor", "PrometheusRule"):
        plural = f"{kind.lower()}s"
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.monitoring.coreos.com"},
            "spec": {
                "group": "monitoring.coreos.com",
                "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
                "scope": "Namespaced",
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
            },
        }
        apply_definition(api_server.api, definition)
        api_server.kubectl("wait", "--for=condition=Established", f"crd/{plural}.monitoring.coreos.com", "--timeout=60s")


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


def test_every_combination_of_values_lints(api_server: ApiServer, case: Case, tmp_path: Path) -> None:
    api_server.helm("lint", str(CHART), "--strict", *arguments(case, tmp_path))


def test_values_of_the_last_release_alone_render(api_server: ApiServer, tmp_path: Path) -> None:
    """What `helm upgrade --reuse-values` does: this chart's templates, without this chart's defaults."""
    older = tmp_path / "taskfleet"
    shutil.copytree(CHART, older)
    shutil.copy(last_release().chart / "values.yaml", older / "values.yaml")
    found = api_server.helm("template", "taskfleet", str(older), "--set", "image.repository=registry.example/taskfleet")
    assert "<no value>" not in found
    assert {(item["kind"], item["metadata"]["name"]) for item in yaml.safe_load_all(found) if item} >= {
        ("Deployment", "taskfleet-gateway"),
        ("Secret", FEEDBACK_SECRET),
    }


def test_every_combination_of_values_is_accepted_by_the_api_server(api_server: ApiServer, case: Case, tmp_path: Path) -> None:
    objects = render(api_server, case, tmp_path)
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    answer = api_server.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=manifest)
    assert len(answer.splitlines()) == len(objects)


def test_roles_have_no_wildcards_and_no_dangerous_rights(api_server: ApiServer, case: Case, tmp_path: Path) -> None:
    rules = list(rules_of_roles(render(api_server, case, tmp_path)))
    assert rules
    for role, rule in rules:
        words = [word for key in ("apiGroups", "resources", "verbs", "nonResourceURLs") for word in rule.get(key, [])]
        assert not [word for word in words if "*" in word], role
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"]), role
        resources = set(rule.get("resources", []))
        assert not resources & {"pods/exec", "pods/attach", "pods/portforward", "pods/ephemeralcontainers", "nodes/proxy"}, role
        if resources & {"serviceaccounts/token", "secrets"}:
            assert len(rule["resourceNames"]) == 1, role
        if "secrets" in resources:
            assert (role, rule["resourceNames"], set(rule["verbs"])) == ("taskfleet-gateway", [FEEDBACK_SECRET], {"get", "patch"})


def test_pods_pass_the_restricted_pod_security_standard(
    api_server: ApiServer, case: Case, new_namespace: Callable[[str], str], tmp_path: Path
) -> None:
    namespace = restricted_namespace(api_server, new_namespace)
    pods = pods_of(render(api_server, case, tmp_path), namespace)
    assert len(pods) == 2
    for pod in pods:
        api_server.api.apply(pod, dry_run=True)


def test_a_pod_that_may_do_more_is_refused_there(api_server: ApiServer, new_namespace: Callable[[str], str], tmp_path: Path) -> None:
    namespace = restricted_namespace(api_server, new_namespace)
    pod = pods_of(render(api_server, DEFAULT, tmp_path), namespace)[0]
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(ApiError, match="violates PodSecurity"):
        api_server.api.apply(pod, dry_run=True)


def restricted_namespace(api_server: ApiServer, new_namespace: Callable[[str], str]) -> str:
    namespace = new_namespace("restricted")
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest"}
    api_server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    for name in ("taskfleet-operator", "taskfleet-gateway"):
        api_server.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
    return namespace


def test_rendered_definitions_are_the_generated_ones(api_server: ApiServer, tmp_path: Path) -> None:
    rendered = {
        body["metadata"]["name"]: body for body in render(api_server, DEFAULT, tmp_path) if body["kind"] == "CustomResourceDefinition"
    }
    assert len(rendered) == 4
    for path in (ROOT / "crds").glob("*.yaml"):
        generated = yaml.safe_load(path.read_text())
        # Helm's numbers go through floating point: large ones must come out as they went in.
        assert rendered[generated["metadata"]["name"]]["spec"] == generated["spec"]
        assert rendered[generated["metadata"]["name"]]["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 3},
        {"gateway": {"replica": 3}},
        {"gateway": {"replicas": "three"}},
        {"gateway": {"auth": {"mode": "Basic"}}},
        {"gateway": {"auth": {"audience": ""}}},
        {"gateway": {"url": "models.example"}},
        {"gateway": {"feedback": {"perMinute": 0}}},
        {"gateway": {"feedback": {"lifetime": "1h"}}},
        {"gateway": {"ingress": {"enabled": True}}},
        {"gateway": {"resources": {"cpu": "1"}}},
        {"operator": {"replicas": -1}},
        {"metrics": {"prometheusRule": {"runbookUrl": "https://runbooks.example/a b"}}},
        {"image": {"digest": "latest"}},
        {"log": {"level": "loud"}},
        {"insecureRegistries": ["http://registry.example"]},
        {"artifacts": {"allowedNetworks": ["10.0.0.1"]}},
        {"networkPolicy": {"clients": [{"everybody": True}]}},
    ],
    ids=json.dumps,
)
def test_values_that_mean_nothing_are_refused(api_server: ApiServer, values: Object, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        render(api_server, Case("wrong", values), tmp_path)
    assert "values don't meet the specifications of the schema" in refusal.value.stderr


def test_no_key_is_rendered_and_none_is_asked_for_where_no_verdicts_are_taken(api_server: ApiServer, case: Case, tmp_path: Path) -> None:
    objects = render(api_server, case, tmp_path)
    secrets = [body for body in objects if body["kind"] == "Secret"]
    asked = [rule for _, rule in rules_of_roles(objects) if "secrets" in rule.get("resources", [])]
    if case.values.get("gateway", {}).get("feedback") == {"enabled": False}:
        assert secrets == asked == []
    else:
        (secret,) = secrets
        assert (secret["metadata"]["name"], len(asked)) == (FEEDBACK_SECRET, 1)
        assert not {"data", "stringData"} & set(secret)


def test_the_missing_image_is_asked_for(api_server: ApiServer) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        api_server.helm("template", "taskfleet", str(CHART))
    assert "image.repository must be set" in refusal.value.stderr


def test_an_upgrade_that_changes_nothing_restarts_nothing(api_server: ApiServer, tmp_path: Path) -> None:
    first, second = (render(api_server, DEFAULT, tmp_path) for _ in range(2))
    assert first == second


def test_termination_waits_for_the_longest_drain(api_server: ApiServer, case: Case, tmp_path: Path) -> None:
    gateway = next(pod for pod in pods_of(render(api_server, case, tmp_path), "any") if pod["metadata"]["name"] == "taskfleet-gateway")
    environment = {one["name"]: one.get("value", "") for one in gateway["spec"]["containers"][0]["env"]}
    needed = int(environment["TASKFLEET_SHUTDOWN_DELAY_SECONDS"]) + int(environment["TASKFLEET_DRAIN_SECONDS"])
    assert gateway["spec"]["terminationGracePeriodSeconds"] > needed


def test_alerts_are_rendered_as_they_are_written_each_with_its_runbook(api_server: ApiServer, tmp_path: Path) -> None:
    watched = next(case for case in CASES if case.name == "watched")
    (rule,) = (body for body in render(api_server, watched, tmp_path) if body["kind"] == "PrometheusRule")
    written = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    for group in written["groups"]:
        for alert in group["rules"]:
            alert["annotations"]["runbook_url"] = f"https://runbooks.example/taskfleet#{alert['alert'].lower()}"
    assert rule["spec"] == written
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_no_alerts_without_being_asked(api_server: ApiServer, tmp_path: Path) -> None:
    assert "PrometheusRule" not in {body["kind"] for body in render(api_server, DEFAULT, tmp_path)}
