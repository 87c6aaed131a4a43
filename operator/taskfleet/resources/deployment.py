"""The pool's Deployment.

Its pod template depends on the class, the operator's settings, the pool's identity and the claims that artifacts come from; members of the same claims, digests, replicas and
keys come and go without a restart.
"""

from taskfleet import names
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.servingclass import EngineVolume, ServingClass
from taskfleet.planning.baseimage import BASE_IMAGE, base_image
from taskfleet.planning.claims import claims_of_pool, volume_of
from taskfleet.planning.pool import selector
from taskfleet.resources.agent_containers import agent_container, base_container
from taskfleet.resources.engine_container import TERMINATION_MARGIN_SECONDS, engine_container
from taskfleet.resources.metadata import Json, child_labels, child_metadata, given
from taskfleet.resources.security import pod_security
from taskfleet.resources.settings import PoolSettings

# For fetching the base, before the engine's own start. Only a condition of the Deployment depends on it.
_FETCH_SECONDS = 1800
_TOKEN_SECONDS = 600  # the shortest that Kubernetes gives


def deployment(pool: ModelPool, serving_class: ServingClass, settings: PoolSettings) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": child_metadata(pool),
        "spec": {
            "replicas": pool.spec.replicas,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": serving_class.spec.engine.startup_seconds + _FETCH_SECONDS,
            "selector": {"matchLabels": selector(pool)},
            # No request is lost: a new pod serves before an old one goes. It takes one spare device; without one the new pod is Unschedulable, the old ones
            # go on, and the pool says so.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": pod_template(pool, serving_class, settings),
        },
    }


def pod_template(pool: ModelPool, serving_class: ServingClass, settings: PoolSettings) -> Json:
    """The pods. Equal inputs give equal JSON, key by key."""
    extra, scheduling = serving_class.spec.pod_metadata, serving_class.spec.scheduling
    spec: Json = {
        "serviceAccountName": pool.metadata.name,
        "automountServiceAccountToken": False,
        # Variables for every Service of the namespace, which an engine could take for settings of its own.
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": serving_class.spec.engine.drain_seconds + TERMINATION_MARGIN_SECONDS,
        "securityContext": pod_security(),
        "imagePullSecrets": [{"name": name} for name in serving_class.spec.engine.image_pull_secrets],
        "initContainers": [agent_container(pool, serving_class, settings), base_container(serving_class, settings)],
        "containers": [engine_container(pool, serving_class)],
        "volumes": _volumes(pool, serving_class),
        "nodeSelector": dict(scheduling.node_selector),
        "tolerations": list(scheduling.tolerations),
        "affinity": scheduling.affinity,
        "topologySpreadConstraints": [
            {"labelSelector": {"matchLabels": selector(pool)}, **constraint} for constraint in scheduling.topology_spread_constraints
        ],
        "priorityClassName": scheduling.priority_class_name,
        "runtimeClassName": scheduling.runtime_class_name,
        "schedulerName": scheduling.scheduler_name,
    }
    metadata = {"labels": {**extra.labels, **child_labels(pool)}, "annotations": dict(extra.annotations)}
    return {"metadata": given(metadata), "spec": given(spec)}


def _volumes(pool: ModelPool, serving_class: ServingClass) -> list[Json]:
    size = serving_class.spec.store.size_limit
    return [
        {"name": "store", "emptyDir": {"sizeLimit": size} if size is not None else {}},
        {"name": "run", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "agent-tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": serving_class.spec.engine.shared_memory}},
        {
            "name": "pool",
            "projected": {"sources": [{"configMap": {"name": pool.metadata.name}}, {"serviceAccountToken": _peer_token(pool)}]},
        },
        # Optional: entries come, change and go while the pod runs.
        {"name": "credentials", "secret": {"secretName": names.CREDENTIALS_SECRET, "optional": True}},
        *_base_image(pool, serving_class),
        *(_claim(volume_of(claim), claim) for claim in claims_of_pool(pool.spec)),
        *(_engine_volume(volume) for volume in serving_class.spec.engine.volumes),
    ]


def _base_image(pool: ModelPool, serving_class: ServingClass) -> list[Json]:
    image = base_image(pool.spec, serving_class)
    return [{"name": BASE_IMAGE, "image": {"reference": image, "pullPolicy": "IfNotPresent"}}] if image is not None else []


def _peer_token(pool: ModelPool) -> Json:
    """By which a pod's agent asks the pool's other agents for copies of artifacts. The API server refuses it, as any other pool does. The kubelet renews it."""
    return {"path": names.PEER_TOKEN_FILE, "audience": pool.metadata.uid, "expirationSeconds": _TOKEN_SECONDS}


def _engine_volume(volume: EngineVolume) -> Json:
    if volume.image is not None:
        return {"name": volume.name, "image": volume.image.to_json()}
    return _claim(volume.name, volume.claim_name)


def _claim(volume: str, claim: str | None) -> Json:
    return {"name": volume, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
