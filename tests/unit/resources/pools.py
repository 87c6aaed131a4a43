"""A pool, and the ServingClass that says everything that one can say."""

from typing import Any

from taskfleet.api.agent import DesiredState, Trust
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.servingclass import ServingClass
from taskfleet.planning.desired import desired_state
from taskfleet.resources.pool import Children, children
from taskfleet.resources.settings import PoolSettings
from tests.unit.planning.builders import digest, key_for, member_of, pool_of, revision_of, serving_class, task_model

SETTINGS = PoolSettings(
    agent_image="registry.example/taskfleet:1.0",
    operator_namespace="taskfleet-system",
    insecure_registries="registry.local:5000",
    allowed_networks="10.20.0.0/16",
)
TRUST = Trust(
    issuer="https://issuer.example",
    jwks={"keys": [{"kid": "one", "kty": "RSA", "n": "AQAB", "e": "AQAB"}]},
    operator_subject="system:serviceaccount:taskfleet-system:taskfleet-operator",
    gateway_subject="system:serviceaccount:taskfleet-system:taskfleet-gateway",
)

MAXIMAL: dict[str, Any] = {
    "engine": {
        "type": "vLLM",
        "image": "registry.example/vllm:1",
        "imagePullPolicy": "Always",
        "imagePullSecrets": ["pull-one", "pull-two"],
        "command": ["python3.11", "-m", "vllm.entrypoints.openai.api_server"],
        "args": ["--dtype=float16", "--enforce-eager"],
        "env": [{"name": "OMP_NUM_THREADS", "value": "4"}, {"name": "EMPTY"}],
        "resources": {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"memory": "16Gi"}},
        "sharedMemory": "2Gi",
        "volumes": [
            {"name": "kernels", "mountPath": "/opt/kernels", "claimName": "kernels"},
            {"name": "plugins", "mountPath": "/opt/plugins", "image": {"reference": "registry.example/plugins:1", "pullPolicy": "Never"}},
        ],
        "maxModelLength": 4096,
        "startupSeconds": 601,
        "drainSeconds": 45,
    },
    "accelerator": {"resourceName": "nvidia.com/mig-1g.10gb", "count": 2},
    "scheduling": {
        "nodeSelector": {"gpu": "l4"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]
                }
            }
        },
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"},
            {
                "maxSkew": 2,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"team": "money"}},
            },
        ],
        "priorityClassName": "batch",
        "runtimeClassName": "nvidia",
        "schedulerName": "bin-packer",
    },
    "adapters": {"maxPerPool": 40, "candidateSlots": 4, "maxActive": 6, "maxRank": 32, "maxSize": "1Gi"},
    "store": {"sizeLimit": "50Gi", "maxBaseSize": "20Gi", "ociBases": "Download"},
    "scaling": {"minReplicas": 2, "maxReplicas": 4},
    "agentResources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
    "podMetadata": {"labels": {"team": "money"}, "annotations": {"example.com/bill": "4711"}},
}


def maximal() -> ServingClass:
    return serving_class(**MAXIMAL)


def the_pool(**fields: Any) -> ModelPool:
    task = task_model("total")
    revision = revision_of(task, digest=digest("a"))
    plain: dict[str, Any] = {"generation": 7, "base_digest": digest("b"), "replicas": 2}
    return pool_of(member_of(revision, digest=digest("a")), key=key_for(task), **plain | fields)


def children_of(
    the_class: ServingClass, pool: ModelPool | None = None, *, settings: PoolSettings = SETTINGS, trust: Trust = TRUST
) -> Children:
    pool = pool or the_pool()
    desired: DesiredState = desired_state(pool, the_class)
    return children(pool, the_class, settings, desired=desired, trust=trust)
