"""The agent in a pool pod: a native sidecar that is the pod's one open door, and an init step that waits for the base.

The sidecar starts before the engine and stops after it, so that the engine finds its files and a terminating pod finishes what it serves.
"""

from taskfleet import names
from taskfleet.api.agent import LIVE_PATH, READY_PATH
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.servingclass import ServingClass
from taskfleet.planning.baseimage import BASE_IMAGE, base_image
from taskfleet.planning.claims import claims_of_pool, volume_of
from taskfleet.resources.metadata import Json, container_resources
from taskfleet.resources.security import container_security
from taskfleet.resources.settings import PoolSettings

STORE = "/store"
RUN = "/run/taskfleet"
POOL_DIR = "/etc/taskfleet/pool"
CREDENTIALS_DIR = "/etc/taskfleet/credentials"  # a mount point, not a secret
CLAIMS_DIR = "/claims"
BASE_IMAGE_DIR = "/run/base-image"


def agent_container(pool: ModelPool, serving_class: ServingClass, settings: PoolSettings) -> Json:
    """The sidecar. It alone mounts claims of artifacts, and can't write to them: engines read verified copies."""
    return {
        "name": "agent",
        "image": settings.agent_image,
        "imagePullPolicy": settings.agent_image_pull_policy,
        "command": ["taskfleet", "agent", "run"],
        "restartPolicy": "Always",  # what makes an init container a sidecar
        "env": _environment(pool, serving_class, settings),
        "ports": [{"name": "agent", "containerPort": names.AGENT_PORT, "protocol": "TCP"}],
        "resources": container_resources(serving_class.spec.agent_resources),
        # The base step starts when this passes; a minute on a busy node.
        "startupProbe": _probe(LIVE_PATH, periodSeconds=1, timeoutSeconds=2, failureThreshold=120),
        "livenessProbe": _probe(LIVE_PATH, periodSeconds=10, timeoutSeconds=5, failureThreshold=6),
        "readinessProbe": _probe(READY_PATH, periodSeconds=2, timeoutSeconds=2, failureThreshold=2),
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "store", "mountPath": STORE},
            {"name": "run", "mountPath": RUN},
            {"name": "agent-tmp", "mountPath": "/tmp"},  # noqa: S108  (a mount point)
            {"name": "pool", "mountPath": POOL_DIR, "readOnly": True},
            {"name": "credentials", "mountPath": CREDENTIALS_DIR, "readOnly": True},
            *({"name": volume_of(claim), "mountPath": f"{CLAIMS_DIR}/{claim}", "readOnly": True} for claim in claims_of_pool(pool.spec)),
            *base_image_mount(pool, serving_class),
        ],
    }


def base_container(serving_class: ServingClass, settings: PoolSettings) -> Json:
    """The init step: ends when the base is staged and verified. What takes long here doesn't count against the engine's start."""
    return {
        "name": "base",
        "image": settings.agent_image,
        "imagePullPolicy": settings.agent_image_pull_policy,
        "command": ["taskfleet", "agent", "await-base"],
        "env": [
            {"name": "TASKFLEET_RUN", "value": RUN},
            {"name": "TASKFLEET_LOG_LEVEL", "value": settings.log_level},
            {"name": "TASKFLEET_LOG_STYLE", "value": settings.log_style},
        ],
        "resources": container_resources(serving_class.spec.agent_resources),
        "securityContext": container_security(),
        "volumeMounts": [{"name": "run", "mountPath": RUN}],
    }


def base_image_mount(pool: ModelPool, serving_class: ServingClass) -> list[Json]:
    """For agent and engine alike: the one verifies what the other reads, and nobody can write to it."""
    return [{"name": BASE_IMAGE, "mountPath": BASE_IMAGE_DIR, "readOnly": True}] if base_image(pool.spec, serving_class) else []


def _environment(pool: ModelPool, serving_class: ServingClass, settings: PoolSettings) -> list[Json]:
    engine = serving_class.spec.engine
    values = {
        "TASKFLEET_ENGINE_TYPE": engine.type.value,
        "TASKFLEET_ENGINE_PORT": str(names.ENGINE_PORT),
        "TASKFLEET_LISTEN_PORT": str(names.AGENT_PORT),
        "TASKFLEET_STORE": STORE,
        "TASKFLEET_RUN": RUN,
        "TASKFLEET_POOL_DIR": POOL_DIR,
        "TASKFLEET_CREDENTIALS_DIR": CREDENTIALS_DIR,
        "TASKFLEET_CLAIMS_DIR": CLAIMS_DIR if claims_of_pool(pool.spec) else "",
        "TASKFLEET_BASE_IMAGE": BASE_IMAGE_DIR if base_image(pool.spec, serving_class) else "",
        "TASKFLEET_DRAIN_SECONDS": str(engine.drain_seconds),
        "TASKFLEET_INSECURE_REGISTRIES": settings.insecure_registries,
        "TASKFLEET_ALLOWED_NETWORKS": settings.allowed_networks,
        "TASKFLEET_LOG_LEVEL": settings.log_level,
        "TASKFLEET_LOG_STYLE": settings.log_style,
    }
    return [
        {"name": "TASKFLEET_POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
        {"name": "TASKFLEET_POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
        *({"name": name, "value": value} for name, value in values.items() if value),
    ]


def _probe(path: str, **timing: int) -> Json:
    return {"httpGet": {"path": path, "port": names.AGENT_PORT, "scheme": "HTTP"}, **timing}
