"""A pool with more adapters than its engine may have loaded: all answer, those that rest after a load."""

import random
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from taskfleet import names
from tests.cluster.api import POD, eventually
from tests.cluster.disturbance import kill_container
from tests.cluster.fleet import Artifact, Fleet, Tenant
from tests.cluster.load import constant_load
from tests.cluster.oracles import ready
from tests.cluster.story import tell

CLASS = "crowded"
TASKS = 6
RESIDENT = 2
ROUNDS = 30


@dataclass(frozen=True, slots=True)
class Crowd:
    tenant: Tenant
    artifacts: dict[str, Artifact]

    def ask(self, task: str) -> float:
        """Asks once, and gives the seconds that it took."""
        begun = time.perf_counter()
        answer = self.tenant.chat(task)
        assert answer.status == 200, answer.raw
        assert self.artifacts[task].mark in answer.text, "the bytes of another adapter"
        return time.perf_counter() - begun


@pytest.fixture(scope="module")
def crowd(fleet: Fleet) -> Iterator[Crowd]:
    fleet.serving_class(CLASS, adapters={"maxPerPool": TASKS, "candidateSlots": 1, "maxActive": RESIDENT, "maxResident": RESIDENT})
    with fleet.tenant("crowd") as tenant:
        artifacts = {f"task-{number}": fleet.artifact("crowd", f"v{number}") for number in range(TASKS)}
        for task, artifact in artifacts.items():
            tenant.apply(task, artifact, serving_class=CLASS)
        ready(fleet.api, tenant.namespace)
        yield Crowd(tenant, artifacts)
    fleet.remove_class(CLASS)


def test_every_task_answers_with_its_own_adapter_in_whatever_order(fleet: Fleet, crowd: Crowd) -> None:
    tasks = list(crowd.artifacts)
    again = [crowd.ask(task) for task in tasks for _ in range(3)][1::3]
    turns = [crowd.ask(task) for _ in range(3) for task in tasks]
    print(f"median of a request: {statistics.median(again) * 1000:.0f} ms loaded, {statistics.median(turns) * 1000:.0f} ms after a rest")
    chosen = random.Random(1)  # noqa: S311
    with ThreadPoolExecutor(4) as users:
        list(users.map(lambda _: crowd.ask(chosen.choice(tasks)), range(ROUNDS)))
    ready(fleet.api, crowd.tenant.namespace)


def test_killed_engine_loses_no_request_of_a_resting_adapter(fleet: Fleet, crowd: Crowd) -> None:
    targets = [crowd.tenant.target(task, artifact) for task, artifact in crowd.artifacts.items()]
    with constant_load(fleet.gateway_url, targets, rate=10) as load:
        load.wait_for(20)
        (pod,) = fleet.api.list(POD, crowd.tenant.namespace, labels=names.LABEL_POOL)
        kill_container(fleet.api, pod, "engine")
        eventually(
            lambda: ready(fleet.api, crowd.tenant.namespace),
            what="all are Ready again",
            describe=lambda: tell(fleet.api, crowd.tenant.namespace),
        )
        load.wait_for(30)
    wrong = [one for one in load.outcomes if one.status == 200 and one.error]
    assert not wrong, f"an answer of another adapter: {wrong[:3]}"
