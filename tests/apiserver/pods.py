"""What a kubelet tells of pods, told by the tests: nothing runs in this tier."""

from datetime import datetime, timedelta

from tests.cluster.api import DEPLOYMENT, POD, REPLICA_SET, Api, Object, eventually

NOW = "2026-01-01T00:00:00Z"


def pod_at(api: Api, namespace: str, pool: str, address: str) -> None:
    """The pod of a pool's present Deployment runs, is ready, and has this address."""
    run_at(api, made_of(api, namespace, pool), address)


def made_of(api: Api, namespace: str, pool: str) -> Object:
    """The pod of a pool's present Deployment, as Kubernetes makes it."""

    def made() -> Object:
        sets = _owned_by(api.list(REPLICA_SET, namespace), api.get(DEPLOYMENT, pool, namespace))
        found = [pod for one in sets for pod in _owned_by(api.list(POD, namespace), one)]
        assert found, "there is none"
        return found[0]

    return eventually(made, what=f"Kubernetes makes a pod of {pool}")


def run_at(api: Api, pod: Object, address: str) -> None:
    """The pod runs, is ready, and has this address."""
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": NOW} for kind in ("PodScheduled", "Ready")]
    _tell(api, pod, {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions})


def tell_start(api: Api, pod: Object, address: str, *, ready_after: int | None, scheduled_after: int = 1, engine_after: int = 8) -> None:
    """What Kubernetes tells of a pod that starts, in seconds since its creation. `ready_after` None: it is not Ready."""
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])

    def at(seconds: int) -> str:
        return (created + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")

    def container(name: str, image: str, state: Object) -> Object:
        return {"name": name, "image": image, "imageID": "", "ready": True, "restartCount": 0, "state": state}

    spec = {one["name"]: one["image"] for one in (*pod["spec"]["initContainers"], *pod["spec"]["containers"])}
    ready = {"type": "Ready", "status": "True" if ready_after is not None else "False", "lastTransitionTime": at(ready_after or 2)}
    ended: Object = {"terminated": {"exitCode": 0, "startedAt": at(2), "finishedAt": at(5)}}
    running: dict[str, Object] = {
        "agent": {"running": {"startedAt": at(2)}},
        "base": ended,
        "engine": {"running": {"startedAt": at(engine_after)}},
    }
    _tell(
        api,
        pod,
        {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": at(scheduled_after)}, ready],
            "initContainerStatuses": [container(name, spec[name], running[name]) for name in ("agent", "base")],
            "containerStatuses": [container("engine", spec["engine"], running["engine"])],
        },
    )


def ended_with(api: Api, pod: Object, message: str) -> None:
    """The only container of the pod ended well, long ago by the node's clock, and left these last words."""
    terminated = {"exitCode": 0, "reason": "Completed", "message": message, "startedAt": NOW, "finishedAt": NOW}
    (container,) = pod["spec"]["containers"]
    ended = {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": terminated},
    }
    _tell(api, pod, {"phase": "Succeeded", "containerStatuses": [ended]})


def _tell(api: Api, pod: Object, status: Object) -> None:
    api.patch(POD, pod["metadata"]["name"], pod["metadata"]["namespace"], change={"status": status}, subresource="status")


def _owned_by(objects: list[Object], owner: Object) -> list[Object]:
    """Those that it controls: by UID, as an earlier owner of the same name may still be leaving."""
    uid = owner["metadata"]["uid"]
    return [one for one in objects if any(ref["uid"] == uid for ref in one["metadata"].get("ownerReferences", []))]
