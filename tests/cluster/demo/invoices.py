"""The example that `make up` brings to life: three tasks about invoices in the namespace `finance`, and an application that may call them."""

import json
import time
from dataclasses import dataclass

from taskfleet import names
from taskfleet.artifacts.push import push
from tests.cluster.local.cluster import Cluster
from tests.cluster.local.failures import ClusterError
from tests.cluster.local.instance import REPOSITORY
from tests.engine.environment import ensure

EXAMPLES = REPOSITORY / "examples"
MODELS = EXAMPLES / "tiny-model"
NAMESPACE = "finance"
TASKS = ("invoice-vendor", "invoice-date", "invoice-total")
ENGINE_CLAIM = "vllm-cpu"
APPLICATION = "bookkeeping"
TOKEN_HOURS = 24


@dataclass(frozen=True, slots=True)
class Example:
    """A line of a task's golden set: what is asked, and what is right."""

    task: str
    question: str
    expected: str


def golden_example(task: str) -> Example:
    """The first line of the task's golden set."""
    line = (EXAMPLES / "golden" / f"{task.removeprefix('invoice-')}.jsonl").read_text().splitlines()[0]
    content = json.loads(line)
    return Example(task, content["messages"][-1]["content"], content["expected"])


def push_models(cluster: Cluster) -> None:
    """Pushes the tiny base and every version of every adapter into the cluster's registry."""
    push(MODELS / "base", f"{cluster.registry_on_host}/tiny-invoices:v1", insecure=True)
    for version in sorted((MODELS / "adapters").glob("*/*")):
        push(version, f"{cluster.registry_on_host}/finance/invoice-{version.parent.name}:{version.name}", insecure=True)


def provide_engine(cluster: Cluster) -> None:
    """Makes vLLM's folder where it is missing, and offers it to the namespace as a read-only claim."""
    folder = ensure().folder
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": _restricted()}}])
    cluster.provide_read_only_claim(folder=folder, namespace=NAMESPACE, claim=ENGINE_CLAIM)


def apply_examples(cluster: Cluster) -> None:
    for name in ("serving-class-tiny.yaml", "invoices.yaml"):
        cluster.kubectl("apply", "-f", str(EXAMPLES / name))


def await_ready(cluster: Cluster, *, seconds: int) -> None:
    """Waits until all three are Ready. Raises ClusterError that says how far they are."""
    deadline = time.monotonic() + seconds
    for task in TASKS:
        left = max(1, int(deadline - time.monotonic()))
        try:
            cluster.kubectl(
                "wait", f"tm/{task}", f"--namespace={NAMESPACE}", "--for=condition=Ready", f"--timeout={left}s", timeout=left + 30
            )
        except ClusterError as error:
            state = cluster.kubectl("get", "tm,mp,pods", f"--namespace={NAMESPACE}", "-o", "wide")
            advice = f"kubectl describe tm {task} -n {NAMESPACE}; kubectl logs -n {NAMESPACE} -l {names.LABEL_POOL} --all-containers"
            raise ClusterError(f"TaskModel {NAMESPACE}/{task} is not Ready after {seconds} s\n{state}", advice=advice) from error


def admit_application(cluster: Cluster) -> str:
    """Lets the example's application invoke the namespace's TaskModels, and returns a token of it for the gateway."""
    cluster.kubectl("apply", "-f", str(EXAMPLES / "caller.yaml"))
    arguments = [APPLICATION, f"--namespace={NAMESPACE}", f"--audience={names.GATEWAY_AUDIENCE}", f"--duration={TOKEN_HOURS}h"]
    return cluster.kubectl("create", "token", *arguments).strip()


def _restricted() -> dict[str, str]:
    return {"pod-security.kubernetes.io/enforce": "restricted"}
