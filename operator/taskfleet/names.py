"""The one place where names stand: API group, labels, annotations, object names, engine names, ports and audiences."""

import hashlib
import re

GROUP = "taskfleet.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

# Server-side apply: one manager for everything that the operator writes.
FIELD_MANAGER = "taskfleet-operator"

# Labels on children.
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "taskfleet"
LABEL_POOL = f"{GROUP}/pool"  # name of the ModelPool
LABEL_POOL_UID = f"{GROUP}/pool-uid"  # its UID; on the Service, and so by Kubernetes on its EndpointSlices
LABEL_TASK_MODEL = f"{GROUP}/task-model"  # on TaskModelRevisions

# Label by which people offer a PersistentVolumeClaim to the TaskModels of its namespace.
LABEL_ARTIFACTS = f"{GROUP}/artifacts"
ARTIFACTS_OFFERED = "true"

# Annotations.
ANNOTATION_DEFAULT_CLASS = f"{GROUP}/is-default-class"  # "true" on at most one ServingClass

# Kubernetes' own, on pods: where a ReplicaSet gets smaller, of its Ready pods those with the lowest value go first.
ANNOTATION_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

# On TaskModels, by people and pipelines. Each value names the revision that is meant, so that it means nothing to another one, and counts once however often it is applied.
# Removing `pause` resumes; `promote` has `@N` (go on to step N) or `@full` behind the revision; `retry` anything behind an @, so that a second retry can be told from the first.
ANNOTATION_PAUSE = f"{GROUP}/pause"
ANNOTATION_PROMOTE = f"{GROUP}/promote"
ANNOTATION_ABORT = f"{GROUP}/abort"  # a candidate: rejected
ANNOTATION_RETRY = f"{GROUP}/retry"  # a rejected revision: rolled again, from its gate on
ANNOTATION_UNDO = f"{GROUP}/undo"  # the revision that serves: the one before it serves again

# The ServiceAccount under which golden sets are run, in the namespace of the TaskModel. Gateways let it call every revision of that namespace; it has no other right.
EVALUATOR_ACCOUNT = "taskfleet-evaluator"
LABEL_EVALUATION = f"{GROUP}/evaluation"  # on Jobs and their pods: name of the TaskModelRevision that is measured

# On these Jobs: what the operator has to know of them again.
ANNOTATION_COMPARED_WITH = f"{GROUP}/compared-with"  # name of the stable TaskModelRevision
ANNOTATION_ATTEMPT = f"{GROUP}/attempt"
ANNOTATION_FINGERPRINT = f"{GROUP}/fingerprint"

# The request header that says which requests belong together, for choices that stick to a conversation.
CONVERSATION_HEADER = "x-taskfleet-conversation"

CREDENTIALS_SECRET = "taskfleet-credentials"  # noqa: S105  the Secret's name, not a secret

# In the gateway's namespace: the keys that sign the ids of answers.
FEEDBACK_SECRET = "taskfleet-gateway-feedback"  # noqa: S105  the Secret's name, not a secret

# Audience that a client's token must carry to be accepted by the gateway.
GATEWAY_AUDIENCE = "taskfleet-gateway"
# Audience of the operator's token when it asks a gateway which routes are in force.
INTERNAL_AUDIENCE = "taskfleet-gateway-internal"

# Where a gateway replica says which routes are in force, on its internal port.
GATEWAY_ROUTES_PATH = "/internal/v1/routes"

# Ports inside a pool pod. The engine listens on the loopback interface only; the agent is the pod's one open door.
ENGINE_PORT = 8000
AGENT_PORT = 8080

# Where a pod of a pool finds its own token for the other pods of that pool: a file beside the pool's documents.
PEER_TOKEN_FILE = "peer-token"  # noqa: S105  a file's name

# Kubernetes names are bounded at 63; a TaskModel's name leaves room for the suffixes that revisions and labels add.
TASK_MODEL_NAME_LENGTH = 50
POOL_NAME_LENGTH = 48


def peers_service(pool: str) -> str:
    """The headless Service under whose name DNS gives the addresses of all pods of a pool, Ready or not."""
    return f"{pool}-peers"


def demand_record(task_model: str) -> str:
    """The ConfigMap with what was asked of a TaskModel on the last days."""
    return f"{task_model}-demand"


def evaluation_job(revision: str, attempt: int) -> str:
    """The Job that measures a revision for the `attempt`-th time, from 1. Of a long name the task's part is cut: the hash behind it says all."""
    task, _, content = revision.rpartition("-")
    end = f"-{content}-eval-{attempt}"
    return f"{task[: 63 - len(end)].rstrip('-')}{end}"


def account_subject(namespace: str, service_account: str) -> str:
    """The subject of a ServiceAccount's tokens."""
    return f"system:serviceaccount:{namespace}:{service_account}"


def short_hash(*parts: str, length: int = 8) -> str:
    """The first `length` hexadecimal digits of SHA-256 over the parts, which are kept apart from one another."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:length]


def slug(text: str, length: int) -> str:
    """`text` as a DNS label of at most `length` characters; `x` where nothing usable is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:length].strip("-") or "x"


def engine_name(namespace: str, task_model: str, digest: str) -> str:
    """The adapter's name inside the engine. Content-addressed: an engine's prefix cache is keyed by it, so it is never reused for other bytes."""
    return f"{namespace}.{task_model}.{digest.removeprefix('sha256:')[:32]}"


def pool_name(base_source: str, key: tuple[str, ...], index: int) -> str:
    """The name of the `index`-th pool (from 0) of a packing key; readable by its base, unique by the key's hash. Its Service has the same name, so a letter comes first."""
    readable = slug(base_source.rstrip("/").rsplit("/", 1)[-1], 30)
    stem = f"{readable if readable[0].isalpha() else f'm{readable}'}-{short_hash(*key)}"
    return stem if index == 0 else f"{stem}-{index}"
