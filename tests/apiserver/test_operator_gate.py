"""The gate in front of a revision: what its Jobs come to decides, and nothing else lets it pass."""

import json
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.apiserver.conftest import ApiServer
from tests.apiserver.golden_sets import GATE, Question, golden_set
from tests.apiserver.history import History, rollout, traffic
from tests.apiserver.nodes import Answer, Later, Nodes, nodes, passes
from tests.apiserver.objects import Change, changed, put, serving_class, task_model
from tests.apiserver.operator_process import OperatorProcess, running_operator
from tests.cluster.api import EVENT, JOB, REVISION, SERVICE_ACCOUNT, SERVING_CLASS, TASK_MODEL, Api, Object, condition
from tests.cluster.oracles import summary

CLASS = "gate"
AGENTS = [f"127.77.210.{number}" for number in range(1, 9)]
CHANGES = {
    "prompt": put("spec.task", {"systemPrompt": "Say less."}),
    "defaults": put("spec.task", {"defaults": {"maxTokens": 7}}),
    "schema": put("spec.task", {"outputSchema": json.dumps({"type": "object"})}),
}
# Tasks whose v1 serves already when a test begins.
SERVED = ("good", "bad", "busy", "broken", "moved", *CHANGES)


def worse(question: Question) -> str:
    return question.measured(88.33)


def unmeasurable(question: Question) -> str:
    return question.unmeasurable()


@dataclass(frozen=True, slots=True)
class Gate:
    """An operator, the nodes that its pods are on, and a namespace with a golden set and one pool for all tasks."""

    api: Api
    operator: OperatorProcess
    nodes: Nodes
    namespace: str

    def apply(self, name: str, *changes: Change) -> None:
        gated = (put("spec.servingClassName", CLASS), put("spec.evaluation", GATE))
        self.api.apply(changed(task_model(self.namespace, name), *gated, *changes))

    def order(self, name: str, verb: str, value: str) -> None:
        self.api.patch(TASK_MODEL, name, self.namespace, change={"metadata": {"annotations": {f"taskfleet.dev/{verb}": value}}})

    def answer(self, name: str, *answers: Answer) -> None:
        """What the task's next evaluations come to; the last one stays."""
        self.nodes.answers[f"{self.namespace}/{name}"] = deque(answers)

    def asked(self, name: str) -> list[Question]:
        """The task's evaluations until now."""
        return list(self.nodes.asked[f"{self.namespace}/{name}"])

    def task(self, name: str) -> Object:
        return self.api.get(TASK_MODEL, name, self.namespace)

    def revision(self, name: str, version: str) -> Object | None:
        found = [one for one in self.api.list(REVISION, self.namespace) if one["spec"]["taskModelName"] == name]
        return next((one for one in found if one["spec"]["adapter"]["version"] == version), None)

    def jobs(self, revision: str) -> list[str]:
        return sorted(
            one["metadata"]["name"] for one in self.api.list(JOB, self.namespace) if one["metadata"]["name"].startswith(f"{revision}-eval-")
        )

    def ends(self, name: str, phase: str, *, version: str = "v1") -> Object:
        """Waits until the rollout of the spec's revision is there; gives the revision."""

        def there() -> bool:
            revision, task = self.revision(name, version), self.task(name)
            assert revision is not None, f"no revision of {version}"
            found = rollout(task)
            assert (found.get("revision"), found.get("phase")) == (revision["metadata"]["name"], phase), found
            return bool(task["status"]["observedGeneration"] == task["metadata"]["generation"])

        self.operator.brings(there, what=f"{name} {version} is {phase}")
        found = self.revision(name, version)
        assert found is not None
        return found

    def holds(self, name: str, hold: str, *, mentions: str) -> None:
        def held() -> bool:
            found = rollout(self.task(name))
            assert (found.get("phase"), found.get("hold")) == ("Evaluating", hold), found
            return mentions in found["message"]

        self.operator.brings(held, what=f"{name} holds: {hold}")

    def served(self, name: str) -> str:
        """One of `SERVED`, once v1 has passed its gate; gives the revision."""
        return str(self.ends(name, "Done")["metadata"]["name"])


@pytest.fixture(scope="module")
def gate(api_server: ApiServer, new_namespace: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    api, system, namespace = api_server.api, new_namespace("operator"), new_namespace("gate")
    api.apply(serving_class(CLASS))
    api.apply(golden_set(namespace))
    api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "taskfleet-operator", "namespace": system}})
    with (
        nodes(api, AGENTS) as found,
        running_operator(api_server, tmp_path_factory.mktemp("operator"), namespace=system) as operator,
    ):
        found.namespaces.add(namespace)
        one = Gate(api, operator, found, namespace)
        for name in SERVED:
            one.apply(name)
        # Whether it goes on by itself is looked at last: nobody tells the operator of a ConfigMap, and half a minute may pass.
        one.apply("late", put("spec.evaluation", {"dataset": {"configMapName": "late"}}))
        one.holds("late", "GateUnmeasurable", mentions="no ConfigMap late")
        api.apply(golden_set(namespace, name="late"))
        yield one
        for task in api.list(TASK_MODEL, namespace):
            api.delete(TASK_MODEL, task["metadata"]["name"], namespace)
    api.delete(SERVING_CLASS, CLASS)


def test_first_revision_gets_no_request_before_its_gate(gate: Gate) -> None:
    """V-15."""
    evaluation, history = Later(), History.begin(gate.api, gate.namespace)
    gate.answer("first", evaluation)
    gate.apply("first")
    gate.operator.brings(lambda: gate.asked("first"), what="it is measured")
    revision = gate.revision("first", "v1")
    assert revision is not None
    name = revision["metadata"]["name"]
    assert gate.asked("first")[0].compared == (name, None)
    assert traffic(gate.task("first")) == {}
    evaluation.answer = passes
    found = gate.ends("first", "Done")
    assert history.shares("first") == [{}, {name: 100}]
    assert (found["status"]["evaluation"]["outcome"], found["status"]["verdict"]["outcome"]) == ("Measured", "Promoted")
    assert summary(gate.task("first")) == "Ready"
    account = gate.api.get(SERVICE_ACCOUNT, "taskfleet-evaluator", gate.namespace)
    assert account["automountServiceAccountToken"] is False


def test_revision_that_passes_is_promoted(gate: Gate) -> None:
    stable = gate.served("good")
    history = History.begin(gate.api, gate.namespace)
    gate.apply("good", put("spec.adapter.version", "v2"))
    found = gate.ends("good", "Done", version="v2")
    name = found["metadata"]["name"]
    assert gate.asked("good")[1].compared == (name, stable)
    assert history.shares("good") == [{stable: 100}, {name: 100}]
    assert found["status"]["evaluation"]["stable"]["revision"] == stable

    def told() -> bool:
        found = {event["reason"] for event in gate.api.list(EVENT, gate.namespace) if event["regarding"]["name"] == "good"}
        return found >= {"RolloutStarted", "GatePassed", "Promoted"}

    gate.operator.brings(told, what="its events are told")


def test_revision_that_fails_never_gets_traffic(gate: Gate) -> None:
    """V-02: the spec is the user's, and a verdict stays until somebody retries."""
    stable = gate.served("bad")
    gate.answer("bad", worse)
    history = History.begin(gate.api, gate.namespace)
    gate.apply("bad", put("spec.adapter.version", "v2"))
    asked = gate.task("bad")
    found = gate.ends("bad", "Rejected", version="v2")
    name, task = found["metadata"]["name"], gate.task("bad")
    healthy = condition(task, "RolloutHealthy") or {}
    assert (healthy["status"], healthy["reason"]) == ("False", "GateFailed")
    assert "88.33 %" in healthy["message"]
    assert "97 %" in healthy["message"]
    assert summary(task) == "Stalled"
    assert (task["spec"], task["metadata"]["generation"]) == (asked["spec"], asked["metadata"]["generation"])

    gate.apply("bad")
    gate.ends("bad", "Done")
    gate.apply("bad", put("spec.adapter.version", "v2"))
    assert gate.ends("bad", "Rejected", version="v2")["metadata"]["uid"] == found["metadata"]["uid"]
    assert history.shares("bad") == [{stable: 100}]
    assert len(gate.jobs(name)) == 1, "what is known is not measured again"

    gate.answer("bad", passes)
    gate.order("bad", "retry", f"{name}@1")
    gate.ends("bad", "Done", version="v2")
    assert [question.compared for question in gate.asked("bad")[1:]] == [(name, stable)] * 2


def test_gate_that_could_not_be_measured_is_tried_again(gate: Gate) -> None:
    """V-03."""
    gate.served("busy")
    gate.answer("busy", unmeasurable, unmeasurable, unmeasurable, passes)
    gate.apply("busy", put("spec.adapter.version", "v2"))
    found = gate.ends("busy", "Done", version="v2")
    assert [question.job for question in gate.asked("busy")[1:]] == [f"{found['metadata']['name']}-eval-{n}" for n in range(1, 5)]


def test_gate_that_is_never_measured_holds_until_somebody_retries(gate: Gate) -> None:
    """V-03."""
    stable = gate.served("broken")
    gate.answer("broken", unmeasurable)
    history = History.begin(gate.api, gate.namespace)
    gate.apply("broken", put("spec.adapter.version", "v2"))
    gate.holds("broken", "GateUnmeasurable", mentions="could not be measured 5 times: 7 of 60 examples were answered")
    name = rollout(gate.task("broken"))["revision"]
    assert len(gate.asked("broken")) == 6
    assert history.shares("broken") == [{stable: 100}]
    gate.answer("broken", passes)
    gate.order("broken", "retry", f"{name}@1")
    gate.ends("broken", "Done", version="v2")
    assert len(gate.asked("broken")) == 7


def test_revision_is_measured_again_when_another_one_serves_meanwhile(gate: Gate) -> None:
    """V-21: what was measured beside v2 says nothing beside v1."""
    first = gate.served("moved")
    gate.apply("moved", put("spec.adapter.version", "v2"))
    second = gate.ends("moved", "Done", version="v2")["metadata"]["name"]
    stale, present, history = Later(), Later(), History.begin(gate.api, gate.namespace)
    gate.answer("moved", stale, present)
    gate.apply("moved", put("spec.adapter.version", "v3"))
    gate.operator.brings(lambda: len(gate.asked("moved")) == 3, what="v3 is measured")
    gate.apply("moved")
    gate.ends("moved", "Done")
    gate.apply("moved", put("spec.adapter.version", "v3"))
    gate.operator.brings(lambda: len(gate.asked("moved")) == 4, what="v3 is measured again")
    stale.answer = passes
    third = rollout(gate.task("moved"))["revision"]
    assert [question.compared for question in gate.asked("moved")[2:]] == [(third, second), (third, first)]
    assert traffic(gate.task("moved")) == {first: 100}
    present.answer = passes
    gate.ends("moved", "Done", version="v3")
    assert history.shares("moved") == [{second: 100}, {first: 100}, {third: 100}]


def test_another_prompt_default_or_schema_goes_through_the_gate(gate: Gate) -> None:
    """V-17."""
    stable = {name: gate.served(name) for name in CHANGES}
    for name, change in CHANGES.items():
        gate.answer(name, worse)
        gate.apply(name, change)
    for name, served in stable.items():

        def rejected(name: str = name) -> bool:
            return bool(rollout(gate.task(name)).get("phase") == "Rejected")

        gate.operator.brings(rejected, what=f"another {name} is rejected")
        candidate = rollout(gate.task(name))["revision"]
        assert candidate != served
        assert gate.asked(name)[1].compared == (candidate, served)
        assert traffic(gate.task(name)) == {served: 100}


def test_golden_set_that_comes_late_is_seen_by_itself(gate: Gate) -> None:
    gate.ends("late", "Done")
    assert len(gate.asked("late")) == 1
