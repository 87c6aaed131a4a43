"""The claims that matter, on real vLLM: the example TaskModels share one engine and answer right."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from taskfleet import names
from taskfleet.artifacts.push import push
from tests.cluster.api import NAMESPACE, POD, POOL, SERVING_CLASS, TASK_MODEL, Object, condition, eventually
from tests.cluster.demo import rollout
from tests.cluster.disturbance import rolled_out
from tests.cluster.fleet import SYSTEM, Fleet, Tenant
from tests.cluster.installation import CHART, RELEASE, VALUES
from tests.cluster.load import Outcome, Target, constant_load, judge
from tests.cluster.local.cluster import Cluster
from tests.cluster.local.progress import Progress
from tests.cluster.openai_client import Answer, OpenAiClient
from tests.cluster.oracles import SOAK, ready, warnings
from tests.cluster.sockets import listeners
from tests.cluster.story import tell
from tests.engine.environment import ensure

# Gateways get another time-out for requests that wait for an engine.
ENDS_PROCESSES = True

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TASKS = {"vendor": "invoice-vendor", "date": "invoice-date", "total": "invoice-total"}
GOLDEN_LINES = 50
RIGHT_PERCENT = 95
START_SECONDS = 600.0
CHANGES = 10
RATE = 10.0  # requests per second over all three tasks
# A task that sleeps. The engine starts in half a minute where nothing else is at work.
SLEEPER = "invoice-vendor-sometimes"
SLEEPY_CLASS = "tiny-sleepy"
IDLE_SECONDS = 10
HOLD_SECONDS = 300
AT_ONCE = 16
LONG = 400  # tokens
SHORT = 6  # tokens, which are bytes: enough to know an answer by, and no more, because a busy machine makes few of them a second


def documents(name: str) -> list[Object]:
    return [document for document in yaml.safe_load_all((EXAMPLES / name).read_text()) if document]


@pytest.fixture(scope="module")
def finance(fleet: Fleet, cluster: Cluster) -> Iterator[Tenant]:
    """The examples as a user applies them, their artifacts in the registry, and the engine on its volume."""
    push(EXAMPLES / "tiny-model/base", f"{fleet.registries.on_host}/tiny-invoices:v1", insecure=True)
    for folder in sorted((EXAMPLES / "tiny-model/adapters").glob("*/*")):
        push(folder, f"{fleet.registries.on_host}/finance/invoice-{folder.parent.name}:{folder.name}", insecure=True)
    applied = documents("invoices.yaml")
    namespace = next(document["metadata"]["namespace"] for document in applied if document["kind"] == "TaskModel")
    tenant = fleet.admit(namespace)
    (serving_class,) = documents("serving-class-tiny.yaml")
    claims = [volume["claimName"] for volume in serving_class["spec"]["engine"]["volumes"]]
    cluster.provide_read_only_claim(folder=ensure().folder, namespace=namespace, claim=claims[0])
    fleet.api.apply(serving_class)
    for document in applied:
        fleet.api.apply(document)
    ready(fleet.api, namespace, *TASKS.values(), within=START_SECONDS)
    yield tenant
    fleet.api.delete(NAMESPACE, namespace)


def golden(task: str) -> list[Object]:
    lines = (EXAMPLES / f"golden/{task}.jsonl").read_text().splitlines()
    assert len(lines) >= GOLDEN_LINES
    return [json.loads(line) for line in lines[:GOLDEN_LINES]]


def test_three_tasks_share_one_engine(fleet: Fleet, finance: Tenant) -> None:
    pods = fleet.api.list(POD, finance.namespace)
    assert len(pods) == 1
    targets = {finance.get(task)["status"]["traffic"][0]["pool"] for task in TASKS.values()}
    assert len(targets) == 1


@pytest.mark.parametrize("task", TASKS)
def test_task_answers_its_golden_set(finance: Tenant, task: str) -> None:
    client = finance.client

    def right(example: Object) -> bool:
        body = {"model": f"{finance.namespace}/{TASKS[task]}", "messages": example["messages"], "max_tokens": 48}
        return client.request("POST", "/v1/chat/completions", body).text.strip() == str(example["expected"])

    with ThreadPoolExecutor(4) as workers:
        answers = list(workers.map(right, golden(task)))
    score = 100 * sum(answers) / len(answers)
    print(f"{task}: {score:.0f} % of {len(answers)} golden lines")
    assert score >= RIGHT_PERCENT


def test_one_line_gets_three_right_answers(finance: Tenant) -> None:
    line = "from Wonka Ltd; total 12.50 EUR; dated 2024-01-02; no R1234"
    answers = {task: finance.chat(name, line).text.strip() for task, name in TASKS.items()}
    assert answers == {"vendor": "Wonka Ltd", "date": "2024-01-02", "total": "12.50"}


def test_real_engine_streams(finance: Tenant) -> None:
    example = golden("vendor")[0]
    body = {"model": f"{finance.namespace}/{TASKS['vendor']}", "messages": example["messages"], "max_tokens": 48, "stream": True}
    answer = finance.client.request("POST", "/v1/chat/completions", body)
    text, wrong = judge(Target(f"{finance.namespace}/{TASKS['vendor']}", "", stream=True), answer.status, answer.raw)
    assert not wrong
    assert text.strip() == example["expected"]


def answers(finance: Tenant, task: str, lines: list[str]) -> list[str]:
    with ThreadPoolExecutor(4) as workers:
        return [answer.text.strip() for answer in workers.map(lambda line: finance.chat(TASKS[task], line, max_tokens=SHORT), lines)]


def test_task_changes_its_version_ten_times_without_an_error_or_an_old_answer(fleet: Fleet, finance: Tenant) -> None:
    """The two versions answer one line differently. All three tasks are asked all the time; between two changes nothing but the new version answers."""

    def change_to(version: str) -> None:
        change = {"spec": {"adapter": {"version": version}}}
        fleet.api.patch(TASK_MODEL, TASKS["total"], finance.namespace, change=change)
        (task,) = ready(fleet.api, finance.namespace, TASKS["total"])
        assert task["status"]["stable"]["version"] == version

    lines = [str(example["messages"][0]["content"]) for example in golden("total")[:20]]
    began = time.monotonic()
    before = answers(finance, "total", lines)
    # An engine on a machine that is busy with other things makes less than ten answers a second, and its queue would grow without end.
    rate = min(RATE, len(lines) / (time.monotonic() - began) / 2)
    change_to("v1")
    line, said = next(
        (line, {"v1": one, "v2": two})
        for line, one, two in zip(lines, answers(finance, "total", lines), before, strict=True)
        if one and two and one not in two and two not in one
    )
    targets = [Target(f"{finance.namespace}/{TASKS['total']}", line, tuple(said.values()), finance.token, max_tokens=SHORT)]
    for task in ("vendor", "date"):
        example = golden(task)[0]
        asked = str(example["messages"][0]["content"])
        targets.append(
            Target(
                f"{finance.namespace}/{TASKS[task]}",
                asked,
                (str(example["expected"])[:SHORT].strip(),),
                finance.token,
                task == "date",
                SHORT,
            )
        )
    with constant_load(fleet.gateway_url, targets, rate=rate) as load:
        load.wait_for(10)
        for number in range(CHANGES):
            version = f"v{2 - number % 2}"
            change_to(version)
            switched = time.monotonic()

            def late(since: float = switched) -> list[Outcome]:
                return [one for one in load.outcomes if one.model == targets[0].model and one.started > since and not one.error]

            eventually(lambda: len(late()) >= 3, what="three answers of the changed task", within=120)
            assert all(said[version] in one.text for one in late()), f"not {version} after it was told as serving: {late()}"
        change_to("v2")
        load.wait_for(10)
    load.assert_no_error()
    print(
        f"{CHANGES} changes under {rate:.1f} requests/s, {len(load.outcomes)} requests, slowest {max(one.seconds for one in load.outcomes):.2f} s"
    )


def test_better_version_goes_through_and_worse_and_slow_ones_do_not(fleet: Fleet, cluster: Cluster, finance: Tenant) -> None:
    """V-01, V-02, V-05: what `make demo-rollout` plays; the slow one, for which another engine starts, with TASKFLEET_SOAK=1."""
    report = rollout.play(cluster, url=fleet.gateway_url, token=finance.token, progress=Progress(), slow=SOAK)
    assert not report.errors, f"{report.errors} of {report.requests} requests failed"
    better, worse, *slow = report.verdicts
    assert better.startswith("Promoted "), better
    assert worse.startswith("Rejected GateFailed: "), worse
    assert [one.split(":")[0] for one in slow] == (["Rejected AnalysisBreached"] if SOAK else []), slow


def test_real_engine_listens_on_the_loopback_interface_only(fleet: Fleet, cluster: Cluster, finance: Tenant) -> None:
    pod = fleet.api.list(POD, finance.namespace, labels=names.LABEL_POOL)[0]
    found = listeners(cluster, pod["metadata"]["name"], finance.namespace, "engine")
    assert {one.port for one in found if one.reachable_from_outside} == {names.AGENT_PORT}
    assert names.ENGINE_PORT in {one.port for one in found}, "the engine was not seen: the check is blind"


def test_real_engine_sleeps_wakes_for_a_request_and_gets_a_second_pod_in_a_burst(fleet: Fleet, cluster: Cluster, finance: Tenant) -> None:
    """A-01, A-05, A-07."""
    example, client = golden("vendor")[0], OpenAiClient(fleet.gateway_url, finance.token, patience=HOLD_SECONDS)

    def ask(**more: object) -> Answer:
        return client.chat(f"{finance.namespace}/{SLEEPER}", str(example["messages"][0]["content"]), **more)

    def has(replicas: int) -> None:
        def check() -> bool:
            pool = next(one for one in fleet.api.list(POOL, finance.namespace) if one["spec"]["servingClassName"] == SLEEPY_CLASS)
            pods = fleet.api.list(POD, finance.namespace, labels=f"{names.LABEL_POOL}={pool['metadata']['name']}")
            return bool(pool["spec"]["replicas"] == replicas == len(pods))

        eventually(check, what=f"{replicas} pods", within=START_SECONDS, describe=lambda: tell(fleet.api, finance.namespace))

    with gateways_hold_for(fleet, cluster, HOLD_SECONDS), a_task_that_sleeps(fleet, finance):
        # Longer than the idle time, where the engine takes longer for it: nothing breaks it off.
        assert ask(max_tokens=LONG, ignore_eos=True).body["usage"]["completion_tokens"] == LONG
        has(0)
        assert (condition(finance.get(SLEEPER), "Ready") or {})["status"] == "True"
        first = ask()
        assert (first.status, first.text.strip()) == (200, example["expected"]), first.raw
        held = float(first.headers["x-taskfleet-held-seconds"])
        assert held > 0
        assert [event["note"] for event in warnings(fleet.api, finance.namespace, SLEEPER)] == [], "to wake is no trouble"
        with ThreadPoolExecutor(AT_ONCE + 1) as users:
            grown = users.submit(has, 2)
            answered = [one for found in users.map(lambda _: until(grown, ask), range(AT_ONCE)) for one in found]
        grown.result()
        assert {one.status for one in answered} == {200}, [one.raw[:200] for one in answered if one.status != 200][:3]
    print(f"from zero: held for {held:.1f} s; {len(answered)} requests by {AT_ONCE} at once while the second pod started, none failed")


def until(done: Future[None], ask: Callable[[], Answer]) -> list[Answer]:
    """Asks again and again."""
    found = []
    while not done.done():
        found.append(ask())
    return found


@contextmanager
def gateways_hold_for(fleet: Fleet, cluster: Cluster, seconds: int) -> Iterator[None]:
    def held(*values: str) -> None:
        cluster.helm("upgrade", RELEASE, str(CHART), "--namespace", SYSTEM, "--reset-values", "--values", str(VALUES), *values)
        rolled_out(fleet.api, "taskfleet-gateway", SYSTEM)

    held("--set", f"gateway.timeouts.hold={seconds}")
    try:
        yield
    finally:
        held()


@contextmanager
def a_task_that_sleeps(fleet: Fleet, finance: Tenant) -> Iterator[None]:
    (serving_class,) = documents("serving-class-tiny.yaml")
    serving_class["metadata"]["name"] = SLEEPY_CLASS
    windows = {"stableWindowSeconds": 10, "scaleDownDelaySeconds": 10, "idleSeconds": IDLE_SECONDS}
    serving_class["spec"]["scaling"] = {"minReplicas": 0, "maxReplicas": 2, "targetConcurrency": 4, **windows}
    task = next(one for one in documents("invoices.yaml") if one["metadata"]["name"] == TASKS["vendor"])
    task["metadata"]["name"] = SLEEPER
    task["spec"]["servingClassName"] = SLEEPY_CLASS
    fleet.api.apply(serving_class)
    fleet.api.apply(task)
    try:
        ready(fleet.api, finance.namespace, SLEEPER, within=START_SECONDS)
        yield
    finally:
        finance.remove(SLEEPER)
        fleet.api.delete(SERVING_CLASS, SLEEPY_CLASS)
