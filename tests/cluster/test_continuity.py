"""No request is lost by anything that happens on purpose or by accident, while every task has a constant load and two replicas."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cluster.api import DEPLOYMENT, POD, POOL, eventually
from tests.cluster.disturbance import all_ready, drain, kill_container, pods, restart_deployment
from tests.cluster.fleet import SYSTEM, Artifact, Fleet, Tenant
from tests.cluster.load import Load, Target, constant_load
from tests.cluster.oracles import SOAK, identities, minimal, ready
from tests.cluster.story import tell

CLASS = "continuity"
TASKS = ("vendor", "date", "total")
REPLICAS = 2
RATE = 30.0  # requests per second over all tasks: ten for each
AFTERWARDS = 3000 if SOAK else 90  # requests that still have to be answered when all is over


@dataclass(frozen=True, slots=True)
class Busy:
    """A team with three tasks on one pool of two pods."""

    tenant: Tenant
    artifacts: dict[str, Artifact]

    def targets(self, **also: Artifact) -> list[Target]:
        """Every task, one of them streaming; `also` names further bytes that may answer a task."""
        return [
            self.tenant.target(task, *(one for one in (self.artifacts[task], also.get(task)) if one), stream=task == "date")
            for task in TASKS
        ]


@pytest.fixture(scope="module")
def busy(fleet: Fleet) -> Iterator[Busy]:
    fleet.serving_class(CLASS)
    with fleet.tenant("busy") as tenant:
        artifacts = {task: fleet.artifact(f"busy-{task}") for task in TASKS}
        for task in TASKS:
            tenant.apply(task, artifacts[task], serving_class=CLASS, scaling={"minReplicas": REPLICAS})
        ready(fleet.api, tenant.namespace)
        all_ready(fleet.api, tenant.namespace, REPLICAS)
        yield Busy(tenant, artifacts)
    fleet.remove_class(CLASS)


@pytest.fixture
def load(fleet: Fleet, busy: Busy) -> Iterator[Load]:
    """The load runs before, while and after the test's disturbance; then every answer is judged."""
    with constant_load(fleet.gateway_url, busy.targets(), rate=RATE) as load:
        load.wait_for(30)
        yield load
        load.wait_for(AFTERWARDS)
    load.assert_no_error()


def test_pods_roll_without_an_error(fleet: Fleet, busy: Busy, load: Load) -> None:
    """The class changes something that is in the pod template."""
    before = {pod["metadata"]["uid"] for pod in pods(fleet.api, busy.tenant.namespace)}
    fleet.serving_class(CLASS, engine={"env": [{"name": "ROLLED", "value": "once"}]})

    def replaced() -> bool:
        found = {pod["metadata"]["uid"] for pod in fleet.api.list(POD, busy.tenant.namespace)}
        return len(found) == REPLICAS and not found & before

    eventually(replaced, what="new pods only", within=240, describe=lambda: tell(fleet.api, busy.tenant.namespace))
    ready(fleet.api, busy.tenant.namespace)


def test_drained_pods_lose_nothing(fleet: Fleet, busy: Busy, load: Load) -> None:
    before = {pod["metadata"]["uid"] for pod in pods(fleet.api, busy.tenant.namespace)}
    drain(fleet.api, busy.tenant.namespace)

    def replaced() -> bool:
        found = {pod["metadata"]["uid"] for pod in fleet.api.list(POD, busy.tenant.namespace)}
        return len(found) == REPLICAS and not found & before

    eventually(replaced, what="evicted pods are replaced", within=240, describe=lambda: tell(fleet.api, busy.tenant.namespace))
    all_ready(fleet.api, busy.tenant.namespace, REPLICAS)


def test_deleted_pod_loses_nothing(fleet: Fleet, busy: Busy, load: Load) -> None:
    victim = pods(fleet.api, busy.tenant.namespace)[0]["metadata"]["name"]
    fleet.api.delete(POD, victim, busy.tenant.namespace)
    eventually(lambda: fleet.api.find(POD, victim, busy.tenant.namespace) is None, what=f"{victim} is gone", within=120)
    all_ready(fleet.api, busy.tenant.namespace, REPLICAS)


@pytest.mark.parametrize("container", ["engine", "agent"])
def test_killed_container_loses_nothing_and_meets_no_missing_adapter(fleet: Fleet, busy: Busy, load: Load, container: str) -> None:
    victim = pods(fleet.api, busy.tenant.namespace)[0]
    kill_container(fleet.api, victim, container)
    all_ready(fleet.api, busy.tenant.namespace, REPLICAS)
    ready(fleet.api, busy.tenant.namespace)


def test_version_changes_without_an_error(fleet: Fleet, busy: Busy) -> None:
    """Immediate: load, prove, switch, drain, unload. The neighbours' pods are the same all along."""
    old, new = busy.artifacts["total"], fleet.artifact("busy-total", "v2")
    before = identities(fleet.api, busy.tenant.namespace)
    model = f"{busy.tenant.namespace}/total"
    with constant_load(fleet.gateway_url, busy.targets(total=new), rate=RATE) as load:
        load.wait_for(30)
        busy.tenant.apply("total", new, serving_class=CLASS, scaling={"minReplicas": REPLICAS})
        (task,) = ready(fleet.api, busy.tenant.namespace, "total")
        assert task["status"]["stable"]["digest"] == new.digest
        switched = time.monotonic()
        load.wait_for(AFTERWARDS)
        late = [one for one in load.outcomes if one.model == model and one.started > switched]
        assert late
        assert all(new.mark in one.text for one in late), "an old answer after the switch was reported"

        def unloaded() -> bool:
            members = [
                member["adapter"]["digest"] for pool in fleet.api.list(POOL, busy.tenant.namespace) for member in pool["spec"]["members"]
            ]
            return old.digest not in members

        eventually(unloaded, what="the old version left the pool", describe=lambda: tell(fleet.api, busy.tenant.namespace))
        load.wait_for(30)
    load.assert_no_error()
    busy.artifacts["total"] = new
    after = identities(fleet.api, busy.tenant.namespace)
    lasting = {name: uid for name, uid in before.uids.items() if not name.startswith("TaskModelRevision/")}
    minimal(type(before)(lasting, before.restarts), after)


def test_gateways_roll_without_an_error(fleet: Fleet, busy: Busy, load: Load) -> None:
    restart_deployment(fleet.api, "taskfleet-gateway", SYSTEM)


def test_operator_restart_changes_nothing(fleet: Fleet, busy: Busy, load: Load) -> None:
    before = identities(fleet.api, busy.tenant.namespace)
    templates = {one["metadata"]["name"]: one["metadata"]["generation"] for one in fleet.api.list(DEPLOYMENT, busy.tenant.namespace)}
    restart_deployment(fleet.api, "taskfleet-operator", SYSTEM)
    # The new one is at work when it has handled something new.
    busy.tenant.apply("after-restart", None, serving_class=CLASS, suspend=True)
    eventually(
        lambda: busy.tenant.get("after-restart").get("status", {}).get("observedGeneration") == 1,
        what="the restarted operator handles a new TaskModel",
        within=90,
        describe=lambda: tell(fleet.api, SYSTEM),
    )
    busy.tenant.remove("after-restart")
    minimal(before, identities(fleet.api, busy.tenant.namespace))
    assert templates == {
        one["metadata"]["name"]: one["metadata"]["generation"] for one in fleet.api.list(DEPLOYMENT, busy.tenant.namespace)
    }
