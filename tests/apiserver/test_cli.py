"""The command line against a real API server: what the verbs write, who may, and what is told where the cluster says no."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.apiserver.conftest import ApiServer
from tests.apiserver.objects import UID, changed, put, revision, task_model
from tests.cluster.api import TASK_MODEL, Object

PROGRAMS = Path(sys.executable).parent
TASK = "invoice-total"
V7, V8 = f"{TASK}-0000000007", f"{TASK}-0000000008"


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a kubeconfig."""

    kubeconfig: Path
    api_server: ApiServer
    namespace: str

    def rollout(self, *arguments: str) -> Done:
        return self.run(str(PROGRAMS / "taskfleet"), "rollout", *arguments)

    def run(self, *command: str) -> Done:
        path = f"{self.api_server.kubeconfig.parent / 'bin'}:{PROGRAMS}:{os.environ['PATH']}"
        environment = os.environ | {"KUBECONFIG": str(self.kubeconfig), "PATH": path}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    def annotations(self) -> dict[str, str]:
        metadata = self.api_server.api.get(TASK_MODEL, TASK, self.namespace)["metadata"]
        return {name.removeprefix("taskfleet.dev/"): value for name, value in metadata.get("annotations", {}).items()}


@pytest.fixture
def person(api_server: ApiServer, new_namespace: Callable[[str], str], tmp_path: Path) -> Person:
    """The administrator, whose context names a namespace in which v8 is on the first of two steps."""
    namespace = new_namespace("cli")
    api = api_server.api
    api.apply(changed(task_model(namespace), put("spec.rollout.strategy", "Canary")))
    for name in (V7, V8):
        body = revision(namespace, name)
        body["metadata"]["labels"] = {"taskfleet.dev/task-model": TASK}
        api.apply(body)
    write_status(api_server, namespace, stepping())
    config = yaml.safe_load(api_server.kubeconfig.read_text())
    return Person(write_kubeconfig(config, tmp_path / "kubeconfig", namespace), api_server, namespace)


@pytest.fixture
def viewer(person: Person, tmp_path: Path) -> Person:
    """May look at objects of ours, and nothing else."""
    api, namespace = person.api_server.api, person.namespace
    api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "viewer", "namespace": namespace}})
    rule = {"apiGroups": ["taskfleet.dev"], "resources": ["*"], "verbs": ["get", "list"]}
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "viewer", "namespace": namespace}}
    api.apply(rbac | {"kind": "Role", "rules": [rule]})
    subject = {"kind": "ServiceAccount", "name": "viewer", "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "viewer"}
    api.apply(rbac | {"kind": "RoleBinding", "subjects": [subject], "roleRef": reference})
    config = yaml.safe_load(person.kubeconfig.read_text())
    config["users"] = [{"name": one["name"], "user": {"token": api.token("viewer", namespace)}} for one in config["users"]]
    return Person(write_kubeconfig(config, tmp_path / "viewer", namespace), person.api_server, namespace)


def write_kubeconfig(config: Object, path: Path, namespace: str) -> Path:
    for context in config["contexts"]:
        context["context"]["namespace"] = namespace
    path.write_text(yaml.safe_dump(config))
    return path


def write_status(api_server: ApiServer, namespace: str, status: Object) -> None:
    body = {key: value for key, value in task_model(namespace).items() if key != "spec"}
    api_server.api.apply(body | {"status": status}, subresource="status")


def stepping() -> Object:
    target = {"uid": UID, "pool": "tiny-0a1b2c3d"}
    return {
        "observedGeneration": 1,
        "stable": {"revision": V7},
        "candidate": {"revision": V8},
        "traffic": [target | {"revision": V7, "weightPercent": 90}, target | {"revision": V8, "weightPercent": 10}],
        "rollout": {"revision": V8, "phase": "Stepping", "step": 1, "steps": 2},
    }


def test_verbs_write_annotations_that_name_the_revision(person: Person) -> None:
    assert person.rollout("pause", TASK).code == 0
    assert person.annotations() == {"pause": V8}
    again = person.rollout("pause", TASK)
    assert (again.code, "already" in again.out) == (0, True)
    assert person.rollout("resume", TASK).code == 0
    assert person.rollout("promote", TASK).code == 0
    assert person.annotations() == {"promote": f"{V8}@2"}
    assert person.rollout("promote", "--full", TASK).code == 0
    assert person.rollout("abort", TASK).code == 0
    assert person.annotations() == {"promote": f"{V8}@full", "abort": V8}


def test_a_verb_without_effect_writes_nothing_and_says_why(person: Person) -> None:
    refused = person.rollout("retry", TASK)
    assert (refused.code, person.annotations()) == (1, {})
    assert "nothing to retry" in refused.err


def test_whoever_may_not_patch_is_told_so(viewer: Person) -> None:
    assert viewer.rollout("status", TASK).code == 3
    refused = viewer.rollout("abort", TASK)
    assert (refused.code, viewer.annotations()) == (2, {})
    assert f"you may not abort: that needs the right to patch taskmodels in namespace {viewer.namespace}" in refused.err
    assert "Traceback" not in refused.err


def test_status_as_a_plugin_of_kubectl_tells_by_text_json_and_exit_code(person: Person) -> None:
    text = person.run("kubectl", "taskfleet", "rollout", "status", TASK)
    assert (text.code, f"● {V8}  v1  candidate  10 %" in text.out) == (3, True), text
    found = json.loads(person.rollout("status", TASK, "-o", "json").out)
    assert (found["state"], found["exitCode"], found["namespace"]) == ("UnderWay", 3, person.namespace)
    assert {one["name"]: one["weightPercent"] for one in found["revisions"]} == {V7: 90, V8: 10}


def test_watching_ends_with_the_rollout(person: Person) -> None:
    command = [str(PROGRAMS / "taskfleet"), "rollout", "status", TASK, "--watch", "-o", "json", "--timeout", "60"]
    environment = os.environ | {"KUBECONFIG": str(person.kubeconfig)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["state"] == "UnderWay"
        write_status(person.api_server, person.namespace, stepping() | {"rollout": {"revision": V8, "phase": "Rejected"}})
        assert json.loads(watching.stdout.readline())["state"] == "Rejected"
        assert watching.wait(30) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("status", "nobody"), "there is no TaskModel nobody"),
        (("status", TASK, "--context", "nowhere"), "no usable kubeconfig"),
        (("status", TASK, "--kubeconfig", "/nowhere"), "no usable kubeconfig"),
    ],
)
def test_what_cant_be_asked_is_told_in_one_line(person: Person, arguments: tuple[str, ...], says: str) -> None:
    done = person.rollout(*arguments)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert says in done.err
