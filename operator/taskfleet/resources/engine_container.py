"""The engine's container: it listens on the loopback interface only, reads the store only, and is stopped only when the agent has drained.

Sources of the figures: vLLM 0.32.0 run as a pod under Pod Security `restricted`.
"""

from math import ceil

from taskfleet import names
from taskfleet.api.agent import ENGINE_HEALTH_PATH
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.servingclass import AdapterLimits, ServingClass
from taskfleet.engines.settings import EngineSettings
from taskfleet.planning.baseimage import base_image
from taskfleet.planning.enginestart import ENGINE_STARTS
from taskfleet.planning.podtrouble import ENGINE_CONTAINER
from taskfleet.resources.agent_containers import BASE_IMAGE_DIR, RUN, STORE, base_image_mount
from taskfleet.resources.metadata import Json, container_resources, given
from taskfleet.resources.security import container_security

MODEL_PATH = f"{STORE}/base/current"
ADAPTER_PREFIX = f"{STORE}/adapters"
# Between the agent's last moment to drain and the kubelet's SIGKILL.
TERMINATION_MARGIN_SECONDS = 30

_PROBE_PERIOD_SECONDS = 2
# A killed engine leaves shared memory (420 MB) and sockets behind, in volumes that outlive the container.
_START = 'rm -f /dev/shm/psm_*; for file in /tmp/*; do if [ -S "$file" ]; then rm -f "$file"; fi; done; exec "$@"'
# The kubelet sends SIGTERM when this ends, and an engine that gets it aborts what it serves.
_STOP = f"touch {RUN}/drain; until [ -e {RUN}/drained ]; do sleep 0.2; done"


def engine_container(pool: ModelPool, serving_class: ServingClass) -> Json:
    """The engine of the class, serving the pool's base under the pool's name."""
    engine = serving_class.spec.engine
    start = ENGINE_STARTS[engine.type]
    settings = engine_settings(pool, serving_class)
    environment = {"HOME": "/tmp"} | {variable.name: variable.value for variable in engine.env}  # noqa: S108  (a mount point)
    environment |= start.environment(settings)
    return {
        "name": ENGINE_CONTAINER,
        "image": engine.image,
        "imagePullPolicy": engine.image_pull_policy.value,
        "command": ["/bin/sh", "-c", _START, ENGINE_CONTAINER],
        "args": [*(engine.command or start.command), *start.arguments(settings)],
        "env": [given({"name": name, "value": value}) for name, value in environment.items()],
        "resources": container_resources(engine.resources, _devices(serving_class)),
        # 127.0.0.1 is out of the kubelet's reach: the agent asks the engine.
        "startupProbe": _probe(
            periodSeconds=_PROBE_PERIOD_SECONDS, timeoutSeconds=5, failureThreshold=ceil(engine.startup_seconds / _PROBE_PERIOD_SECONDS)
        ),
        "readinessProbe": _probe(periodSeconds=_PROBE_PERIOD_SECONDS, timeoutSeconds=5, failureThreshold=2),
        # The engine's own exit is the usual end of a dead engine; this is for one that hangs. It must outlast a restart of the agent.
        "livenessProbe": _probe(periodSeconds=10, timeoutSeconds=5, failureThreshold=6),
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", _STOP]}}},
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "store", "mountPath": STORE, "readOnly": True},
            {"name": "run", "mountPath": RUN},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  (a mount point)
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  (a mount point)
            *base_image_mount(pool, serving_class),
            *({"name": volume.name, "mountPath": volume.mount_path, "readOnly": True} for volume in engine.volumes),
        ],
    }


def engine_settings(pool: ModelPool, serving_class: ServingClass) -> EngineSettings:
    """What the engine is told; nothing of it depends on the pool's members."""
    engine, adapters = serving_class.spec.engine, serving_class.spec.adapters
    return EngineSettings(
        served_base_name=pool.metadata.name,
        model_path=BASE_IMAGE_DIR if base_image(pool.spec, serving_class) else MODEL_PATH,
        adapter_prefix=ADAPTER_PREFIX,
        port=names.ENGINE_PORT,
        enable_lora=True,
        max_loras=adapters.max_active,
        max_cpu_loras=_in_memory(adapters),
        max_lora_rank=adapters.max_rank,
        max_model_length=engine.max_model_length,
        extra_args=tuple(engine.args),
    )


def _in_memory(adapters: AdapterLimits) -> int:
    """An engine that keeps more than the agent has loaded would spend memory on adapters that it was told to forget: vLLM frees none at an unload, only by its own LRU."""
    assigned = adapters.max_per_pool + adapters.candidate_slots
    return assigned if adapters.max_resident is None else min(assigned, adapters.max_resident)


def _devices(serving_class: ServingClass) -> dict[str, str]:
    device = serving_class.spec.accelerator
    return {device.resource_name: str(device.count)} if device is not None else {}


def _probe(**timing: int) -> Json:
    return {"httpGet": {"path": ENGINE_HEALTH_PATH, "port": names.AGENT_PORT, "scheme": "HTTP"}, **timing}
