"""`python -m tests.cluster.demo rollout`: what a gate and a canary do with a better, a worse and a slow version, on the real engine and under load.

A task of its own is rolled, so that it can be played again and again; the examples of `make up` go on beside it.
"""

import copy
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import yaml

from taskfleet import names
from taskfleet.artifacts.push import push
from tests.cluster.demo.invoices import EXAMPLES, MODELS, NAMESPACE
from tests.cluster.demo.slowness import hold_up
from tests.cluster.load import Load, Target, constant_load
from tests.cluster.local.cluster import Cluster
from tests.cluster.local.failures import ClusterError
from tests.cluster.local.progress import Progress
from tests.cluster.openai_client import OpenAiClient

TASK = "invoice-total-rollout"
MOST_RATE = 8.0  # requests per second
LEAST_RATE = 0.5  # with fewer, steps would take many minutes
# Of what the engine has time for: the gate asks it, too, and an engine on a busy machine answers few requests a second.
RATE_SHARE = 1 / 3
PROBES = 24
PROBED_AT_ONCE = 4
STEPS = ({"weightPercent": 10, "holdSeconds": 5}, {"weightPercent": 50, "holdSeconds": 5})
# The last step of a version that is to be found out on it: it ends with the verdict, long before that.
LONG_SECONDS = 600
# Tags of the demonstration: bytes that `make up` has pushed, under names of their own.
WORSE_VERSION = "v3"
MOVED_BASE = "rebuilt"
# The first version of a task is Ready in seconds, a new pool when its engine has started.
WAIT_SECONDS = 900.0
LOOK_SECONDS = 0.1

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """What the load saw, and how the three rollouts ended: a word, a reason and the figures, as the revisions keep them."""

    requests: int
    errors: int
    slowest_seconds: float
    verdicts: tuple[str, ...]


def play(cluster: Cluster, *, url: str, token: str, progress: Progress, slow: bool = True) -> Report:
    """Rolls a better version, a worse one and, where asked for, a `slow` one under load. Raises ClusterError where one of them doesn't end as it should."""
    stage = Stage(cluster, progress)
    with progress.step(f"beginning with v1, which answers one line in five wrong: TaskModel {NAMESPACE}/{TASK}"):
        stage.begin()
    rate = affordable_rate(url, token)
    progress.say(f"{rate:.1f} requests/s from now on")
    with constant_load(url, questions(token), rate=rate) as load:
        load.wait_for(20)
        verdicts = (stage.better(), stage.worse(), *([stage.slow()] if slow else []))
        load.wait_for(20)
    return _report(load, verdicts)


def affordable_rate(url: str, token: str) -> float:
    """Requests per second that leave the engine time for the gate's."""
    client, asked = OpenAiClient(url, token), questions(token)[:PROBES]
    begun = time.monotonic()
    with ThreadPoolExecutor(PROBED_AT_ONCE) as workers:
        answers = list(workers.map(lambda question: client.chat(question.model, question.prompt), asked))
    if failed := [answer for answer in answers if answer.status != 200]:
        raise ClusterError(f"{len(failed)} of {PROBES} requests failed before anything was rolled: {failed[0].raw[:300]!r}")
    answered = PROBES / (time.monotonic() - begun)
    if answered * RATE_SHARE < LEAST_RATE:
        raise ClusterError(f"the engine answers {answered:.1f} requests a second: the machine is too busy to play this on")
    return min(MOST_RATE, answered * RATE_SHARE)


def questions(token: str) -> list[Target]:
    """The golden set's lines, as users ask them."""
    lines = (EXAMPLES / "golden/total.jsonl").read_text().splitlines()
    return [Target(f"{NAMESPACE}/{TASK}", json.loads(line)["messages"][-1]["content"], token=token) for line in lines]


def _report(load: Load, verdicts: tuple[str, ...]) -> Report:
    if load.failure is not None:
        raise ClusterError(f"the load broke: {load.failure!r}")
    errors = load.errors()
    for one in errors[:5]:
        print(f"{one.status} {one.request_id} {one.error}")
    return Report(len(load.outcomes), len(errors), max(one.seconds for one in load.outcomes), verdicts)


class Stage:
    """The task that is rolled, and what is seen of it."""

    def __init__(self, cluster: Cluster, progress: Progress) -> None:
        self._cluster = cluster
        self._progress = progress
        self._task, self._golden = _manifests()
        self._told = ""

    def begin(self) -> None:
        """v1 serves, without a gate: it would not pass the one that comes with v2."""
        adapter = MODELS / "adapters/total/v1"
        push(adapter, f"{self._cluster.registry_on_host}/finance/invoice-total:{WORSE_VERSION}", insecure=True)
        push(MODELS / "base", f"{self._cluster.registry_on_host}/tiny-invoices:{MOVED_BASE}", insecure=True)
        self._cluster.kubectl("delete", "tm", TASK, f"--namespace={NAMESPACE}", "--ignore-not-found", "--wait")
        self._cluster.apply([self._golden])
        first = copy.deepcopy(self._task)
        first["spec"]["adapter"]["version"] = "v1"
        for part in ("evaluation", "rollout"):
            del first["spec"][part]
        self._cluster.apply([first])
        self._await(lambda task: serves(task, "v1"), "v1 serves")

    def better(self) -> str:
        """v2 is measured, and goes by its steps to all traffic."""
        self._tell("1. a better version, v2, behind a gate and a canary")
        self._cluster.apply([self._task])
        self._await(lambda task: serves(task, "v2"), "v2 serves")
        return self._verdict("v2")

    def worse(self) -> str:
        """A version that is as bad as v1 was: its gate stops it."""
        self._tell(f"2. a worse version, {WORSE_VERSION}")
        self._change({"adapter": {"version": WORSE_VERSION}})
        self._await(lambda task: rejected(task, "GateFailed"), f"{WORSE_VERSION} is stopped by its gate")
        return self._verdict(WORSE_VERSION)

    def slow(self) -> str:
        """v2 again on another build of the base, so on an engine of its own: as good as the one that serves, until that engine is slowed."""
        self._tell("3. v2 on another build of the base: an engine of its own, which becomes slow after the gate")
        steps = [*STEPS[:-1], {**STEPS[-1], "holdSeconds": LONG_SECONDS}]
        self._change({"adapter": {"version": "v2"}, "base": {"revision": MOVED_BASE}, "rollout": {"steps": steps}})
        task = self._await(lambda task: weight(task) == STEPS[-1]["weightPercent"], f"the candidate has {STEPS[-1]['weightPercent']} %")
        pool = task["status"]["traffic"][1]["pool"]
        (pod,) = self._get("pods", "-l", f"{names.LABEL_POOL}={pool}")["items"]
        self._tell("its engine is held up four fifths of the time from now on")
        hold_up(self._cluster, pod["metadata"]["name"], NAMESPACE)
        task = self._await(lambda task: rejected(task, "AnalysisBreached"), "the slow version is rolled back")
        if weight(task) != 0:
            raise ClusterError(f"the rejected version still has {weight(task)} %")
        return self._verdict("v2", base=MOVED_BASE)

    def _change(self, spec: Object) -> None:
        """Only what is given. The gate and the golden set stay."""
        self._cluster.kubectl("patch", "tm", TASK, f"--namespace={NAMESPACE}", "--type=merge", "-p", json.dumps({"spec": spec}))

    def _await(self, reached: Callable[[Object], bool], what: str) -> Object:
        """Tells each change of the rollout until it is reached."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            task = self._get("tm", TASK)
            line = outline(task)
            if line != self._told:
                self._tell(f"   {line}")
                self._told = line
            if reached(task):
                return task
            if time.monotonic() > deadline:
                raise ClusterError(f"{what}: not so after {WAIT_SECONDS:.0f} s", advice=f"kubectl describe tm {TASK} -n {NAMESPACE}")
            time.sleep(LOOK_SECONDS)

    def _verdict(self, version: str, *, base: str = "v1") -> str:
        """What the revision keeps of its rollout."""
        for revision in self._get("tmr", "-l", f"{names.LABEL_TASK_MODEL}={TASK}")["items"]:
            spec = revision["spec"]
            if (spec["adapter"]["version"], spec["base"]["revision"]) == (version, base):
                verdict = revision["status"]["verdict"]
                return f"{verdict['outcome']} {verdict['reason']}: {verdict['message']}"
        raise ClusterError(f"there is no revision of {version} on the base's {base}")

    def _get(self, kind: str, *arguments: str) -> Object:
        found: Object = json.loads(self._cluster.kubectl("get", kind, *arguments, f"--namespace={NAMESPACE}", "-o", "json"))
        return found

    def _tell(self, line: str) -> None:
        self._progress.say(line)


def _manifests() -> tuple[Object, Object]:
    """The example with the gate, as a task of its own whose steps are short, and its golden set."""
    task, golden = yaml.safe_load_all((EXAMPLES / "rollout.yaml").read_text())
    task["metadata"]["name"] = TASK
    task["spec"]["rollout"]["steps"] = list(STEPS)
    task["spec"]["rollout"]["analysis"]["minRequests"] = 10
    return task, golden


def weight(task: Object) -> int:
    """The candidate's share of the traffic."""
    return sum(target["weightPercent"] for target in task.get("status", {}).get("traffic", [])[1:])


def serves(task: Object, version: str) -> bool:
    """Has this version all traffic, and is the rollout over?"""
    status = task.get("status", {})
    done = (status.get("rollout") or {}).get("phase", "Done") == "Done" and len(status.get("traffic", [])) == 1
    return done and (status.get("stable") or {}).get("version") == version and _condition(task, "Ready").get("status") == "True"


def rejected(task: Object, reason: str) -> bool:
    healthy = _condition(task, "RolloutHealthy")
    return (healthy.get("status"), healthy.get("reason")) == ("False", reason)


def outline(task: Object) -> str:
    """Where a rollout stands, in a line."""
    status = task.get("status", {})
    rollout = status.get("rollout") or {}
    shares = " / ".join(f"{target['weightPercent']} %" for target in status.get("traffic", []))
    step = f" {rollout['step']} of {rollout['steps']}" if rollout.get("step") and rollout.get("phase") == "Stepping" else ""
    return f"{rollout.get('phase') or 'waiting'}{step}, traffic {shares or 'none'}: {rollout.get('message') or ''}".rstrip(": ")


def _condition(task: Object, kind: str) -> Object:
    conditions = task.get("status", {}).get("conditions", [])
    return next((found for found in conditions if found["type"] == kind), {})
