"""Why does a pool not have all its pods?

A chain of named checks over what is seen of the Deployment, its pods and their agents; the first that finds something says why. The checks look at pods that should serve
and don't: a pod that is Ready or being deleted is no trouble.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from taskfleet.api.conditions import Reason
from taskfleet.planning.conditions import known
from taskfleet.planning.snapshot import ContainerView, PodView, PoolSnapshot

ENGINE_CONTAINER = "engine"

_IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"}
)
_CRASH_REASONS = frozenset({"CrashLoopBackOff", "RunContainerError", "StartError"})
_CREATE_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "PreCreateHookError", "PostStartHookError"})
# A container that isn't ready after so many restarts counts as failing between two crashes too, unless its last run was a long one: kubelet's own backoff begins anew after
# ten minutes.
_MANY_RESTARTS = 2
_LONG_RUN_SECONDS = 600.0
_BASE_TROUBLE = frozenset(
    {
        Reason.SOURCE_UNAVAILABLE,
        Reason.SOURCE_NOT_ALLOWED,
        Reason.ARTIFACT_NOT_FOUND,
        Reason.ARTIFACT_INVALID,
        Reason.DIGEST_MISMATCH,
        Reason.CREDENTIALS_MISSING,
        Reason.STORE_FULL,
    }
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong: a stable reason, and one sentence."""

    reason: Reason
    message: str


Check = Callable[[PoolSnapshot], Trouble | None]


def write_refused(snapshot: PoolSnapshot) -> Trouble | None:
    return Trouble(snapshot.refusal.reason, snapshot.refusal.message) if snapshot.refusal is not None else None


def pods_refused(snapshot: PoolSnapshot) -> Trouble | None:
    refusal = snapshot.deployment.refusal if snapshot.deployment else None
    return Trouble(Reason.POD_REFUSED, f"pods can't be created: {refusal}") if refusal is not None else None


def pod_unschedulable(snapshot: PoolSnapshot) -> Trouble | None:
    message = next((pod.unschedulable for pod in _missing(snapshot) if pod.unschedulable is not None), None)
    return Trouble(Reason.UNSCHEDULABLE, f"no node can take a pod: {message}") if message is not None else None


def image_missing(snapshot: PoolSnapshot) -> Trouble | None:
    for pod, container in _containers(snapshot):
        if container.waiting_reason in _IMAGE_REASONS:
            # kubelet says it in turns with and without its backoff; without it the words stay the same.
            said = container.waiting_message.rpartition("ErrImagePull: ")[2]
            why = said or container.waiting_reason
            return Trouble(Reason.IMAGE_UNAVAILABLE, f"the image of container {container.name} of pod {pod.name} can't be pulled: {why}")
    return None


def container_not_created(snapshot: PoolSnapshot) -> Trouble | None:
    for pod, container in _containers(snapshot):
        if container.waiting_reason in _CREATE_REASONS:
            why = container.waiting_message or container.waiting_reason
            return Trouble(Reason.CONTAINER_FAILING, f"container {container.name} of pod {pod.name} can't be created: {why}")
    return None


def base_not_resolved(snapshot: PoolSnapshot) -> Trouble | None:
    failure = next((failure for failure in snapshot.failures if failure.revision == ""), None)
    if failure is None or snapshot.pool.spec.base_digest is not None:
        return None
    return Trouble(known(failure.reason, Reason.SOURCE_UNAVAILABLE), f"base {_base(snapshot)}: {failure.message}")


def base_not_staged(snapshot: PoolSnapshot) -> Trouble | None:
    missing = {pod.name for pod in _missing(snapshot)}
    for agent in sorted(snapshot.agents, key=lambda agent: agent.pod):
        if agent.state is None or agent.pod not in missing or agent.state.base.staged or agent.state.base.reason not in _BASE_TROUBLE:
            continue
        return Trouble(Reason(agent.state.base.reason), f"base {_base(snapshot)} in pod {agent.pod}: {agent.state.base.message}")
    return None


def container_crashing(snapshot: PoolSnapshot) -> Trouble | None:
    for pod, container in _containers(snapshot):
        if _keeps_failing(container):
            reason = Reason.ENGINE_CRASHING if container.name == ENGINE_CONTAINER else Reason.CONTAINER_FAILING
            ended = f", the last time with exit code {container.last_exit_code}" if container.last_exit_code is not None else ""
            return Trouble(reason, f"container {container.name} of pod {pod.name} keeps failing{ended}; its log says why")
    return None


def pod_failed(snapshot: PoolSnapshot) -> Trouble | None:
    serving = sum(pod.serving for pod in snapshot.pods)
    if serving >= snapshot.pool.spec.replicas or any(True for _ in _missing(snapshot)):
        return None
    for pod in snapshot.pods:
        if pod.phase == "Failed" and not pod.deleting:
            return Trouble(Reason.POD_REFUSED, f"pod {pod.name} failed: {pod.reason or 'unknown reason'} {pod.message}".rstrip())
    return None


CHECKS: tuple[Check, ...] = (
    write_refused,  # without our own objects nothing else can be expected
    pods_refused,  # no pod exists that could say more
    pod_unschedulable,  # before it is on a node nothing else can go wrong with a pod
    image_missing,  # before it runs
    container_not_created,  # before it runs
    base_not_resolved,  # the engine waits for the base, and the base for its digest
    base_not_staged,  # the engine waits for the base
    container_crashing,  # after all that could explain it
    pod_failed,  # last: an old failed pod says nothing while a new one is on its way
)


def trouble(snapshot: PoolSnapshot) -> Trouble | None:
    """The first finding among `CHECKS`; None where pods are simply on their way, or all there."""
    return next((found for check in CHECKS if (found := check(snapshot))), None)


def _missing(snapshot: PoolSnapshot) -> Iterator[PodView]:
    for pod in sorted(snapshot.pods, key=lambda pod: pod.name):
        if not pod.ready and not pod.deleting and pod.phase not in {"Failed", "Succeeded"}:
            yield pod


def _keeps_failing(container: ContainerView) -> bool:
    if container.waiting_reason in _CRASH_REASONS:
        return True
    ran_long = container.last_run_seconds is not None and container.last_run_seconds >= _LONG_RUN_SECONDS
    return container.restarts >= _MANY_RESTARTS and not container.ready and not ran_long


def _containers(snapshot: PoolSnapshot) -> Iterator[tuple[PodView, ContainerView]]:
    for pod in _missing(snapshot):
        for container in pod.containers:
            yield pod, container


def _base(snapshot: PoolSnapshot) -> str:
    base = snapshot.pool.spec.base
    return f"{base.source} {base.revision}"
