"""The kinds that the operator watches, and which objects of them."""

from taskfleet import names
from taskfleet.controller.relist import Watched
from taskfleet.controller.writer import CHILDREN
from taskfleet.kube.resources import (
    CONFIG_MAPS,
    JOBS,
    MODEL_POOLS,
    NAMESPACES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    SERVICE_ACCOUNTS,
    SERVING_CLASSES,
    TASK_MODEL_REVISIONS,
    TASK_MODELS,
)

# Chosen by the API server: other people's Deployments, pods and claims cost nothing here.
_OF_POOLS = names.LABEL_POOL
# Pods and accounts of pools and of evaluations, ConfigMaps of pools and of TaskModels: what they have in common.
_OURS = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"

WATCHED = (
    Watched(NAMESPACES),
    Watched(SERVING_CLASSES, users=True),
    Watched(TASK_MODELS, users=True),
    Watched(TASK_MODEL_REVISIONS),
    Watched(MODEL_POOLS),
    Watched(PERSISTENT_VOLUME_CLAIMS, f"{names.LABEL_ARTIFACTS}={names.ARTIFACTS_OFFERED}"),
    Watched(PODS, _OURS),
    Watched(JOBS, names.LABEL_EVALUATION),
    *(Watched(resource, _OURS if resource in {SERVICE_ACCOUNTS, CONFIG_MAPS} else _OF_POOLS) for resource in CHILDREN),
)
