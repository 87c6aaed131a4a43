"""Carries a verb out: reads, decides, and writes against what was read."""

import asyncio
import sys
from datetime import UTC, datetime

from taskfleet.cli.cluster import FIELD_MANAGER, UnusableError, ask
from taskfleet.cli.rollout.reading import read
from taskfleet.cli.rollout.state import ExitCode
from taskfleet.cli.rollout.verbs import Decision, Order, Refused, Verb, decide
from taskfleet.cli.target import Target
from taskfleet.kube.client import Kube
from taskfleet.kube.errors import ConflictError, ForbiddenError
from taskfleet.kube.resources import TASK_MODELS

_ATTEMPTS = 10  # of one write: the operator writes the same object in the middle of a rollout


def carry_out(target: Target, verb: Verb, name: str) -> ExitCode:
    """Writes the verb's annotations, and says what was done and what follows; or says why there is nothing to do."""

    async def work(kube: Kube, namespace: str) -> Decision:
        return await _write(kube, namespace, name, verb)

    decision = ask(target, work)
    if isinstance(decision, Refused):
        print(f"taskfleet: {decision.message}", file=sys.stderr)
        return ExitCode.FAILED
    print(f"{decision.done}: {decision.follows}" if isinstance(decision, Order) else decision.message)
    return ExitCode.DONE


async def _write(kube: Kube, namespace: str, name: str, verb: Verb) -> Decision:
    for _ in range(_ATTEMPTS):
        view = await read(kube, namespace, name)
        decision = decide(verb, view, now=datetime.now(UTC))
        if not isinstance(decision, Order):
            return decision
        try:
            await kube.annotate(
                TASK_MODELS,
                name,
                namespace,
                decision.annotations,
                resource_version=view.task.metadata.resource_version,
                field_manager=FIELD_MANAGER,
            )
        except ConflictError:
            # What was read is the past: the verb is decided anew, from what stands there now.
            await asyncio.sleep(0)
        except ForbiddenError as error:
            raise UnusableError(
                f"you may not {verb}: that needs the right to patch taskmodels in namespace {namespace} ({error.message})"
            ) from error
        else:
            return decision
    raise UnusableError(f"TaskModel {namespace}/{name} was changed by others {_ATTEMPTS} times in a row; nothing was written")
