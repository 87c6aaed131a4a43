"""What a namespace looks like, in the words that a person looking for the cause of a failure would ask for."""

from collections.abc import Iterable

from tests.cluster.api import DEPLOYMENT, EVENT, POD, POOL, REVISION, TASK_MODEL, Api, ApiError, Object

LOG_LINES = 25
EVENTS = 25


def tell(api: Api, *namespaces: str) -> str:
    """Our objects with their conditions, the pods, the latest events, and the ends of the containers' logs."""
    parts = [line for namespace in namespaces for line in _namespace(api, namespace)]
    return "\n".join(parts)


def _namespace(api: Api, namespace: str) -> Iterable[str]:
    yield f"===== namespace {namespace}"
    for kind in (TASK_MODEL, REVISION, POOL, DEPLOYMENT):
        for obj in api.list(kind, namespace):
            yield f"{obj['kind']} {obj['metadata']['name']} generation={obj['metadata'].get('generation')} {_status(obj)}"
            yield from (f"    {one['type']}={one['status']} {one.get('reason')}: {one.get('message')}" for one in _conditions(obj))
    pods = api.list(POD, namespace)
    for pod in pods:
        yield from _pod(pod)
    events = sorted(api.list(EVENT, namespace), key=lambda event: event.get("eventTime") or event.get("deprecatedLastTimestamp") or "")
    for event in events[-EVENTS:]:
        about = event.get("regarding", {})
        yield f"event {event.get('type')} {event.get('reason')} {about.get('kind')}/{about.get('name')}: {event.get('note')}"
    for pod in pods:
        yield from _logs(api, pod)


def _status(obj: Object) -> str:
    status = obj.get("status", {})
    shown = {
        name: status[name]
        for name in ("observedGeneration", "phase", "digest", "traffic", "rollout", "readyReplicas", "members")
        if name in status
    }
    return " ".join(f"{name}={value}" for name, value in shown.items())


def _conditions(obj: Object) -> list[Object]:
    conditions: list[Object] = obj.get("status", {}).get("conditions", [])
    return conditions


def _pod(pod: Object) -> Iterable[str]:
    status = pod.get("status", {})
    ready = next((one["status"] for one in status.get("conditions", []) if one["type"] == "Ready"), "?")
    leaving = " leaving" if "deletionTimestamp" in pod["metadata"] else ""
    yield f"Pod {pod['metadata']['name']} {status.get('phase')} ready={ready}{leaving} {status.get('message', '')}"
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        state = {
            name: (value or {}).get("reason") or (value or {}).get("exitCode", "") for name, value in container.get("state", {}).items()
        }
        yield f"    {container['name']} restarts={container['restartCount']} ready={container['ready']} {state}"


def _logs(api: Api, pod: Object) -> Iterable[str]:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    status = pod.get("status", {})
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        for previous in [True, False] if container["restartCount"] else [False]:
            title = f"--- log of {name}/{container['name']}{' before its restart' if previous else ''}"
            try:
                yield f"{title}\n{api.logs(name, namespace, container=container['name'], previous=previous, tail=LOG_LINES).rstrip()}"
            except ApiError as error:
                yield f"{title}: {error.message}"
