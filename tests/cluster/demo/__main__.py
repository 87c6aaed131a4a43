"""`python -m tests.cluster.demo up|rollout`: from an empty machine to three right answers; a better, a worse and a slow version under load."""

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.cluster.demo import invoices, rollout
from tests.cluster.demo.invoices import Example
from tests.cluster.fleet import SYSTEM
from tests.cluster.installation import install
from tests.cluster.local.backends import provide
from tests.cluster.local.cluster import Cluster
from tests.cluster.local.failures import ClusterError
from tests.cluster.local.instance import REPOSITORY
from tests.cluster.local.progress import Progress
from tests.engine.environment import EngineEnvironmentError

READY_SECONDS = 900
ANSWER_SECONDS = 120
# Whoever lets the tiny model sleep is answered when its engine has started: most of a minute on two cores. Tests hold requests for less.
HOLD_SECONDS = 120


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.demo", description=__doc__)
    parser.add_argument("command", choices=["up", "rollout"])
    parser.add_argument("--name", default="dev", help="which of several clusters side by side (default: dev)")
    chosen = parser.parse_args()
    try:
        return demonstrate(chosen.name) if chosen.command == "up" else demonstrate_rollout(chosen.name)
    except (ClusterError, EngineEnvironmentError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; `make up` goes on from here, `make down` removes what was started", file=sys.stderr)
        return 130


def demonstrate(name: str) -> int:
    """Brings everything up, asks each task once, and says what to try next. 1 when an answer is wrong."""
    progress = Progress()
    cluster = provide(name, progress)
    with progress.step("providing the engine (vLLM on the CPU)"):
        invoices.provide_engine(cluster)
    cluster.provide_images("product", progress=progress)
    with progress.step("pushing the tiny model and its adapters to the cluster's registry"):
        invoices.push_models(cluster)
    with progress.step("installing the chart with helm"):
        install(cluster, f"gateway.timeouts.hold={HOLD_SECONDS}")
    with progress.step("applying the examples, and waiting until their engine has started and all three are Ready"):
        invoices.apply_examples(cluster)
        invoices.await_ready(cluster, seconds=READY_SECONDS)
    url, token = _open_door(cluster)
    progress.say("asking each task once")
    print()
    answers = [(example, ask(url, token, example)) for example in map(invoices.golden_example, invoices.TASKS)]
    for example, answer in answers:
        print(f"{invoices.NAMESPACE}/{example.task:16} {example.question}  →  {answer}")
    print(_what_next(cluster.instance.state.relative_to(REPOSITORY)))
    wrong = [example.task for example, answer in answers if answer != example.expected]
    if wrong:
        print(f"wrong answers: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def demonstrate_rollout(name: str) -> int:
    """Rolls three versions on the cluster that `up` has brought up, and prints how they ended. 1 when a request failed."""
    progress = Progress()
    cluster = provide(name, progress)
    try:
        url, token = ((cluster.instance.state / file).read_text().strip() for file in ("gateway-url", "token"))
        invoices.await_ready(cluster, seconds=READY_SECONDS)
    except (OSError, ClusterError) as error:
        raise ClusterError(f"the examples don't run on the cluster {name}: {error}", advice="make up") from error
    report = rollout.play(cluster, url=url, token=token, progress=progress)
    print()
    for number, verdict in enumerate(report.verdicts, 1):
        print(f"{number}. {verdict}")
    print(f"{report.requests} requests, {report.errors} errors; the slowest took {report.slowest_seconds:.1f} s")
    print(f"\nThe whole story: KUBECONFIG={cluster.kubeconfig} .venv/bin/taskfleet rollout history {rollout.TASK} -n {invoices.NAMESPACE}")
    return 1 if report.errors else 0


def ask(url: str, token: str, example: Example) -> str:
    """One chat request through the gateway, as any OpenAI client would send it. Raises ClusterError with the gateway's words."""
    body = {"model": f"{invoices.NAMESPACE}/{example.task}", "messages": [{"role": "user", "content": example.question}]}
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)  # noqa: S310  our own gateway
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:  # noqa: S310
            content: str = json.load(response)["choices"][0]["message"]["content"]
    except urllib.error.HTTPError as error:
        raise ClusterError(f"{example.task} answered {error.code}: {error.read().decode(errors='replace')}") from error
    except OSError as error:
        raise ClusterError(f"the gateway at {url} can't be reached: {error}") from error
    return content.strip()


def _open_door(cluster: Cluster) -> tuple[str, str]:
    """Writes the gateway's address and a caller's token where people and tools look for them."""
    url = cluster.expose(SYSTEM, "taskfleet-gateway", 80)
    token = invoices.admit_application(cluster)
    (cluster.instance.state / "gateway-url").write_text(url + "\n")
    token_file = cluster.instance.state / "token"
    token_file.unlink(missing_ok=True)
    with os.fdopen(os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as sink:
        sink.write(token + "\n")
    return url, token


def _what_next(state: Path) -> str:
    return f"""
Try next:
  export KUBECONFIG=$PWD/{state}/kubeconfig PATH=$PWD/{state}/bin:$PATH
  kubectl get tm,tmr,mp -n {invoices.NAMESPACE}
  curl -s "$(cat {state}/gateway-url)/v1/models" -H "Authorization: Bearer $(cat {state}/token)"
  kubectl patch tm invoice-total -n {invoices.NAMESPACE} --type=merge -p '{{"spec":{{"adapter":{{"version":"v1"}}}}}}'   # another version, without a gap
  make down
"""


if __name__ == "__main__":
    sys.exit(main())
