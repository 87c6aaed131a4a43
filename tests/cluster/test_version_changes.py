"""A version changes while something else goes wrong: no request of any task fails, and once the change is told as done no answer comes from the old weights."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.cluster.api import POD, POOL, REVISION, Object, eventually
from tests.cluster.disturbance import all_ready, kill_container, pods, restart_deployment, rolled_out
from tests.cluster.fleet import SYSTEM, Artifact, Fleet, Tenant
from tests.cluster.load import constant_load
from tests.cluster.local.cluster import Cluster
from tests.cluster.oracles import ready
from tests.cluster.story import tell

CLASS = "changing"
TASKS = ("vendor", "date", "total")
REPLICAS = 2
RATE = 30.0  # requests per second over all tasks: ten for each
AFTERWARDS = 60  # requests after the change, twenty of each task
EDITS = 50

# What the engine serves and what lies in the store beside it; said inside the engine's container.
HELD = """
import json, os, urllib.request
cards = json.load(urllib.request.urlopen("http://127.0.0.1:8000/v1/models"))["data"]
print(json.dumps({"listed": [os.path.basename(card["root"]) for card in cards if card.get("parent")], "stored": os.listdir("/store/adapters")}))
"""


@dataclass(slots=True)
class Changing:
    """A team with three tasks on one pool of two pods; `total` changes its version all the time."""

    tenant: Tenant
    artifacts: dict[str, Artifact]
    versions: list[Artifact] = field(default_factory=list)

    def next_version(self) -> Artifact:
        self.versions.append(self.tenant.fleet.artifact("changing-total", f"v{len(self.versions) + 2}"))
        return self.versions[-1]

    def apply(self, task: str, artifact: Artifact) -> None:
        self.tenant.apply(task, artifact, serving_class=CLASS, scaling={"minReplicas": REPLICAS})
        self.artifacts[task] = artifact


@pytest.fixture(scope="module")
def changing(fleet: Fleet) -> Iterator[Changing]:
    fleet.serving_class(CLASS)
    with fleet.tenant("changing") as tenant:
        team = Changing(tenant, {})
        for task in TASKS:
            team.apply(task, fleet.artifact(f"changing-{task}"))
        ready(fleet.api, tenant.namespace)
        all_ready(fleet.api, tenant.namespace, REPLICAS)
        yield team
    fleet.remove_class(CLASS)


def delete_pod(fleet: Fleet, team: Changing) -> None:
    fleet.api.delete(POD, pods(fleet.api, team.tenant.namespace)[0]["metadata"]["name"], team.tenant.namespace)


def kill_engine(fleet: Fleet, team: Changing) -> None:
    kill_container(fleet.api, pods(fleet.api, team.tenant.namespace)[0], "engine")


def kill_agent(fleet: Fleet, team: Changing) -> None:
    kill_container(fleet.api, pods(fleet.api, team.tenant.namespace)[0], "agent")


def replace_operator(fleet: Fleet, _: Changing) -> None:
    """Gone without a word, its Lease still held."""
    (operator,) = pods(fleet.api, SYSTEM, labels="app.kubernetes.io/component=operator")
    fleet.api.delete(POD, operator["metadata"]["name"], SYSTEM, grace_seconds=0)
    rolled_out(fleet.api, "taskfleet-operator", SYSTEM)


def restart_gateways(fleet: Fleet, _: Changing) -> None:
    restart_deployment(fleet.api, "taskfleet-gateway", SYSTEM)


def nothing(_fleet: Fleet, _: Changing) -> None:
    """The change alone."""


Fault = Callable[[Fleet, Changing], None]
FAULTS: tuple[Fault, ...] = (nothing, delete_pod, kill_engine, kill_agent, replace_operator, restart_gateways)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_version_changes_without_an_error_whatever_happens_meanwhile(fleet: Fleet, changing: Changing, fault: Fault) -> None:
    old, new = changing.artifacts["total"], changing.next_version()
    tenant = changing.tenant
    marks = {**{task: [changing.artifacts[task]] for task in TASKS}, "total": [old, new]}
    targets = [tenant.target(task, *marks[task], stream=task == "date") for task in TASKS]
    with constant_load(fleet.gateway_url, targets, rate=RATE) as load:
        load.wait_for(15)
        changing.apply("total", new)
        fault(fleet, changing)
        (task,) = ready(fleet.api, tenant.namespace, "total")
        switched = time.monotonic()
        assert task["status"]["stable"]["digest"] == new.digest
        load.wait_for(AFTERWARDS)
        late = [one for one in load.outcomes if one.model.endswith("/total") and one.started > switched and not one.error]
        assert late
        assert all(new.mark in one.text for one in late), "an old answer after the change was told as done"
    load.assert_no_error()
    all_ready(fleet.api, tenant.namespace, REPLICAS)
    ready(fleet.api, tenant.namespace)


def test_only_the_last_of_many_edits_counts_and_the_others_leave_nothing(fleet: Fleet, cluster: Cluster, changing: Changing) -> None:
    tenant = changing.tenant
    old = changing.artifacts["total"]
    skipped = [fleet.artifact("changing-total", f"rapid{number}") for number in range(4)]
    last = fleet.artifact("changing-total", "rapid-last")
    # What came through for a moment may answer for that moment; what answers afterwards is the last one.
    targets = [tenant.target(task, changing.artifacts[task]) for task in TASKS[:2]] + [tenant.target("total", old, *skipped, last)]
    with constant_load(fleet.gateway_url, targets, rate=RATE) as load:
        load.wait_for(15)
        for number in range(EDITS - 1):
            changing.apply("total", skipped[number % len(skipped)])
        changing.apply("total", last)
        (task,) = ready(fleet.api, tenant.namespace, "total")
        switched = time.monotonic()
        assert task["status"]["stable"]["digest"] == last.digest
        load.wait_for(AFTERWARDS)
        late = [one for one in load.outcomes if one.model.endswith("/total") and one.started > switched]
        assert all(last.mark in one.text for one in late), "another version than the last one answers"
    load.assert_no_error()

    def clean() -> bool:
        members = [member for pool in fleet.api.list(POOL, tenant.namespace) for member in pool["spec"]["members"]]
        assert sorted(member["taskModel"] for member in members) == sorted(TASKS), members
        revisions = [one for one in fleet.api.list(REVISION, tenant.namespace) if one["spec"]["taskModelName"] == "total"]
        phases = sorted(one["status"]["phase"] for one in revisions)
        # The window of superseded ones to go back to holds versions that had the traffic, and no others.
        assert set(phases) <= {"Stable", "Superseded"}, phases
        assert phases.count("Stable") == 1, phases
        assert phases.count("Superseded") <= 3, phases
        wanted = sorted(artifact.digest.replace(":", "-") for artifact in changing.artifacts.values())
        for pod in pods(fleet.api, tenant.namespace):
            held = held_by(cluster, pod)
            assert sorted(held["listed"]) == wanted, held
            assert sorted(held["stored"]) == wanted, held
        return True

    eventually(clean, what="nothing of the skipped versions is left", within=90, describe=lambda: tell(fleet.api, tenant.namespace))


def held_by(cluster: Cluster, pod: Object) -> dict[str, list[str]]:
    metadata = pod["metadata"]
    said = cluster.kubectl("exec", "-n", metadata["namespace"], metadata["name"], "-c", "engine", "--", "python3", "-c", HELD)
    held: dict[str, list[str]] = json.loads(said)
    return held
