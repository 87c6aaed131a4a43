"""Objects that break one rule or bound each. The API server refuses them, and so does `taskfleet lint`."""

from dataclasses import dataclass

import pytest

from tests.apiserver.objects import DIGEST, SOURCE, UID, Change, drop, put


@dataclass(frozen=True, slots=True)
class Refusal:
    """A change that makes a valid object invalid, and what the API server has to say about it."""

    what: str
    change: Change
    says: str


def names(*refusals: Refusal) -> list[object]:
    return [pytest.param(refusal, id=refusal.what.replace(" ", "-")) for refusal in refusals]


OFFICE_HOURS = {"name": "office-hours", "timeZone": "Europe/Berlin", "start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "minReplicas": 2}
DATASET = {"configMapName": "golden"}
VOLUME = {"name": "models", "mountPath": "/opt/models", "claimName": "models"}


def with_schedule(**parts: object) -> Change:
    return put("spec.scaling.schedules", [OFFICE_HOURS | parts])


def with_volume(**parts: object) -> Change:
    return put("spec.engine.volumes", [VOLUME | parts])


TASK_MODEL = names(
    Refusal("name with a dot", put("metadata.name", "invoice.total"), "must be a DNS label of at most 50 characters"),
    Refusal("name too long", put("metadata.name", "a" * 51), "must be a DNS label of at most 50 characters"),
    Refusal("no spec", drop("spec"), "spec: Required value"),
    Refusal("no base", drop("spec.base"), "spec.base: Required value"),
    Refusal("no base revision", drop("spec.base.revision"), "spec.base.revision: Required value"),
    Refusal("no adapter version", drop("spec.adapter.version"), "spec.adapter.version: Required value"),
    Refusal("unknown scheme", put("spec.base.source", "ftp://registry.example/tiny"), "spec.base.source"),
    Refusal("password in a source", put("spec.base.source", "oci://user:secret@registry.example/tiny"), "spec.base.source"),
    Refusal("query in a source", put("spec.base.source", "https://registry.example/tiny?token=1"), "spec.base.source"),
    Refusal("source too long", put("spec.base.source", "oci://registry.example/" + "a" * 500), "spec.base.source"),
    Refusal("version with a slash", put("spec.adapter.version", "v1/../v2"), "spec.adapter.version"),
    Refusal("version too long", put("spec.adapter.version", "v" * 129), "spec.adapter.version"),
    Refusal("digest cut short", put("spec.adapter.digest", DIGEST[:-1]), "spec.adapter.digest"),
    Refusal("credentials key with a slash", put("spec.adapter.credentialsKey", "../registry"), "spec.adapter.credentialsKey"),
    Refusal("class name with a dot", put("spec.servingClassName", "l4.large"), "spec.servingClassName"),
    Refusal("config map with two dots", put("spec.evaluation.dataset", {"configMapName": "a..b"}), "configMapName"),
    Refusal("class name with capitals", put("spec.servingClassName", "L4"), "spec.servingClassName"),
    Refusal(
        "prompt and template",
        put("spec.task", {"systemPrompt": "Extract.", "promptTemplate": "{input} =>"}),
        "at most one of systemPrompt and promptTemplate may be set",
    ),
    Refusal("template without input", put("spec.task.promptTemplate", "Extract."), "promptTemplate must contain {input}"),
    Refusal("empty system prompt", put("spec.task.systemPrompt", ""), "spec.task.systemPrompt"),
    Refusal("unknown override", put("spec.task.allowOverrides", ["Model"]), "spec.task.allowOverrides"),
    Refusal("override twice", put("spec.task.allowOverrides", ["Seed", "Seed"]), "allowOverrides must name each setting once"),
    Refusal("top p of zero", put("spec.task.defaults.topP", 0), "spec.task.defaults.topP"),
    Refusal("temperature above 2", put("spec.task.defaults.temperature", 2.5), "spec.task.defaults.temperature"),
    Refusal("no tokens", put("spec.task.defaults.maxTokens", 0), "spec.task.defaults.maxTokens"),
    Refusal("five stops", put("spec.task.defaults.stop", list("abcde")), "spec.task.defaults.stop"),
    Refusal("unknown isolation", put("spec.isolation", "Private"), "spec.isolation"),
    Refusal("min above max replicas", put("spec.scaling", {"minReplicas": 3, "maxReplicas": 2}), "minReplicas must not exceed maxReplicas"),
    Refusal("a thousand replicas", put("spec.scaling.maxReplicas", 1000), "spec.scaling.maxReplicas"),
    Refusal("negative replicas", put("spec.scaling.minReplicas", -1), "spec.scaling.minReplicas"),
    Refusal("idle at once", put("spec.scaling.idleSeconds", 0), "spec.scaling.idleSeconds"),
    Refusal("schedule of six fields", with_schedule(start="0 0 8 * * 1-5"), "spec.scaling.schedules[0].start"),
    Refusal("schedule at an hour that no day has", with_schedule(end="0 24 * * *"), "spec.scaling.schedules[0].end"),
    Refusal("schedule on a day that no week has", with_schedule(start="0 8 * * FRY"), "spec.scaling.schedules[0].start"),
    Refusal("schedule by a nickname", with_schedule(start="@daily"), "spec.scaling.schedules[0].start"),
    Refusal("schedule that ends when it begins", with_schedule(end="0 8 * * 1-5"), "start and end must differ"),
    Refusal("schedule of nothing", with_schedule(minReplicas=0), "spec.scaling.schedules[0].minReplicas"),
    Refusal("time zone that is none", with_schedule(timeZone="Europe/Atlantis"), "must be a time zone of the IANA database"),
    Refusal("time zone as a path", with_schedule(timeZone="../../etc/passwd"), "spec.scaling.schedules[0].timeZone"),
    Refusal(
        "schedule above the maximum",
        put("spec.scaling", {"maxReplicas": 1, "schedules": [OFFICE_HOURS]}),
        "minReplicas of a schedule must not exceed maxReplicas",
    ),
    Refusal(
        "seventeen schedules",
        put("spec.scaling.schedules", [OFFICE_HOURS | {"name": f"hours-{number}"} for number in range(17)]),
        "spec.scaling.schedules",
    ),
    Refusal("forecast from one day", put("spec.scaling.forecast", {"days": 1}), "spec.scaling.forecast.days"),
    Refusal("forecast half a day ahead", put("spec.scaling.forecast", {"leadSeconds": 43_200}), "spec.scaling.forecast.leadSeconds"),
    Refusal("falling weights", put("spec.rollout.steps", [{"weightPercent": 50}, {"weightPercent": 10}]), "weights of steps must grow"),
    Refusal("equal weights", put("spec.rollout.steps", [{"weightPercent": 50}, {"weightPercent": 50}]), "weights of steps must grow"),
    Refusal("step of nothing", put("spec.rollout.steps", [{"weightPercent": 0}]), "a step needs a weightPercent or a shadowPercent"),
    Refusal("negative weight", put("spec.rollout.steps", [{"weightPercent": -1, "shadowPercent": 5}]), "weightPercent"),
    Refusal("weight above 100", put("spec.rollout.steps", [{"weightPercent": 101}]), "weightPercent"),
    Refusal("thirteen steps", put("spec.rollout.steps", [{"weightPercent": n} for n in range(1, 14)]), "spec.rollout.steps"),
    Refusal("latency below 100 percent", put("spec.rollout.analysis.maxLatencyRatioPercent", 90), "maxLatencyRatioPercent"),
    Refusal("long rollback window", put("spec.rollout.rollbackWindowRevisions", 21), "rollbackWindowRevisions"),
    Refusal("no dataset", put("spec.evaluation", {}), "spec.evaluation.dataset: Required value"),
    Refusal("empty dataset", put("spec.evaluation.dataset", {}), "exactly one of configMapName and source must be set"),
    Refusal(
        "two datasets",
        put("spec.evaluation.dataset", {"configMapName": "golden", "source": SOURCE, "digest": DIGEST}),
        "exactly one of configMapName and source must be set",
    ),
    Refusal("source without digest", put("spec.evaluation.dataset", {"source": SOURCE}), "a source needs a digest"),
    Refusal("score above 100", put("spec.evaluation", {"dataset": DATASET, "minScorePercent": 101}), "minScorePercent"),
    Refusal(
        "judge beside another metric",
        put("spec.evaluation", {"dataset": DATASET, "judge": {"url": "https://judge.example/v1", "model": "large"}}),
        "judge may be set with metric Judge only",
    ),
    Refusal("unknown metric", put("spec.evaluation", {"dataset": DATASET, "metric": "Vibes"}), "spec.evaluation.metric"),
    Refusal(
        "price with a sign",
        put("spec.savings.reference", {"name": "big", "inputPricePerMillion": "-3", "outputPricePerMillion": "15"}),
        "inputPricePerMillion",
    ),
    Refusal("unknown field", put("spec.podTemplate", {"spec": {"hostNetwork": True}}), ".spec.podTemplate: field not declared in schema"),
    Refusal("image", put("spec.image", "registry.example/evil:1"), ".spec.image: field not declared in schema"),
)

SERVING_CLASS = names(
    Refusal("name with a dot", put("metadata.name", "l.4"), "must be a DNS label of at most 63 characters"),
    Refusal("unknown engine", put("spec.engine.type", "Ollama"), "spec.engine.type"),
    Refusal("no image", drop("spec.engine.image"), "spec.engine.image: Required value"),
    Refusal("image with a blank", put("spec.engine.image", "registry.example/vllm 1"), "spec.engine.image"),
    Refusal(
        "volume of nothing",
        put("spec.engine.volumes", [{"name": "models", "mountPath": "/opt/models"}]),
        "exactly one of claimName and image",
    ),
    Refusal(
        "volume of two kinds",
        with_volume(image={"reference": "registry.example/models:1"}),
        "exactly one of claimName and image must be set",
    ),
    Refusal("volume with a taken name", with_volume(name="store"), "name must not be one of the pod's own volumes"),
    Refusal("volume over the store", with_volume(mountPath="/store/base"), "mountPath must not be in /store"),
    Refusal("volume that climbs", with_volume(mountPath="/opt/../store"), "mountPath must not contain .."),
    Refusal("volume at a relative path", with_volume(mountPath="opt"), "mountPath"),
    Refusal("two volumes of one name", put("spec.engine.volumes", [VOLUME, VOLUME | {"mountPath": "/srv"}]), "spec.engine.volumes"),
    Refusal("variable twice", put("spec.engine.env", [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]), "spec.engine.env"),
    Refusal("variable with a dash", put("spec.engine.env", [{"name": "A-B"}]), "spec.engine.env[0].name"),
    Refusal(
        "requests above limits",
        put("spec.engine.resources", {"requests": {"memory": "2Gi"}, "limits": {"memory": "1G"}}),
        "requests must not exceed limits",
    ),
    Refusal("quantity without sense", put("spec.engine.resources.limits", {"memory": "much"}), "spec.engine.resources.limits.memory"),
    Refusal("quantity with a wrong unit", put("spec.engine.resources.limits", {"memory": "1K"}), "spec.engine.resources.limits.memory"),
    Refusal("negative quantity", put("spec.engine.resources.limits", {"cpu": -1}), "spec.engine.resources.limits.cpu"),
    Refusal("resource without sense", put("spec.engine.resources.limits", {"/gpu": 1}), "keys must match"),
    Refusal("shared memory without sense", put("spec.engine.sharedMemory", "lots"), "spec.engine.sharedMemory"),
    Refusal("no time to start", put("spec.engine.startupSeconds", 0), "spec.engine.startupSeconds"),
    Refusal("no accelerator name", put("spec.accelerator", {"count": 1}), "spec.accelerator.resourceName: Required value"),
    Refusal("accelerator without sense", put("spec.accelerator.resourceName", "a gpu"), "spec.accelerator.resourceName"),
    Refusal("a hundred accelerators", put("spec.accelerator.count", 100), "spec.accelerator.count"),
    Refusal("label without sense", put("spec.scheduling.nodeSelector", {"a b": "c"}), "keys must match"),
    Refusal("label key too long", put("spec.scheduling.nodeSelector", {"a" * 318: "c"}), "at most 317 characters"),
    Refusal("label value without sense", put("spec.podMetadata.labels", {"team": "a b"}), "spec.podMetadata.labels.team"),
    Refusal("seventeen tolerations", put("spec.scheduling.tolerations", [{"operator": "Exists"}] * 17), "spec.scheduling.tolerations"),
    Refusal(
        "active above all",
        put("spec.adapters", {"maxActive": 8, "maxPerPool": 4, "candidateSlots": 2}),
        "maxActive must not exceed maxPerPool + candidateSlots",
    ),
    Refusal(
        "fewer adapters loaded than one batch may have",
        put("spec.adapters", {"maxActive": 8, "maxResident": 4}),
        "maxResident must not be below maxActive",
    ),
    Refusal("ten thousand adapters", put("spec.adapters.maxPerPool", 10_000), "spec.adapters.maxPerPool"),
    Refusal("rank of a million", put("spec.adapters", {"maxRank": 1_000_000}), "spec.adapters.maxRank"),
    Refusal("odd rank", put("spec.adapters", {"maxRank": 7}), "spec.adapters.maxRank"),
    Refusal("min above max replicas", put("spec.scaling", {"minReplicas": 2}), "minReplicas must not exceed maxReplicas"),
    Refusal(
        "spare pods of another autoscaler",
        put("spec.scaling", {"autoscaler": "External", "spareReplicas": 1}),
        "spareReplicas has an effect",
    ),
    Refusal("too many spare pods", put("spec.scaling.spareReplicas", 17), "spec.scaling.spareReplicas"),
    Refusal("nobody allowed", put("spec.allowedNamespaces", {}), "names or matchLabels must be set"),
    Refusal("empty lists of allowed", put("spec.allowedNamespaces", {"names": [], "matchLabels": {}}), "names or matchLabels must be set"),
    Refusal("price as a number", put("spec.pricePerHour", 1.5), "spec.pricePerHour"),
    Refusal(
        "unknown field",
        put("spec.engine.securityContext", {"privileged": True}),
        ".spec.engine.securityContext: field not declared in schema",
    ),
)

MODEL_POOL = names(
    Refusal("name too long", put("metadata.name", "a" * 49), "must be a DNS label of at most 48 characters"),
    Refusal("no class", drop("spec.servingClassName"), "spec.servingClassName: Required value"),
    Refusal("too many replicas", put("spec.replicas", 257), "spec.replicas"),
    Refusal(
        "member without role",
        put("spec.members", [{"revision": "a", "uid": UID, "taskModel": "a"}]),
        "spec.members[0].role: Required value",
    ),
    Refusal("member twice", put("spec.members", [{"revision": "a", "uid": UID, "taskModel": "a", "role": "Stable"}] * 2), "spec.members"),
)

REVISION = names(
    Refusal("name with a dot", put("metadata.name", "total.1"), "must be a DNS label of at most 63 characters"),
    Refusal("no task", drop("spec.taskModelName"), "spec.taskModelName: Required value"),
)

ANOTHER_BASE = {"source": SOURCE, "revision": "v2"}
POOL_CHANGES = names(
    Refusal("base", put("spec.base", ANOTHER_BASE), "base is immutable"),
    Refusal("class", put("spec.servingClassName", "a100"), "servingClassName is immutable"),
    Refusal("isolation", put("spec.isolation", "Dedicated"), "isolation is immutable"),
    Refusal("another digest", put("spec.baseDigest", "sha256:" + "b" * 64), "baseDigest is set once"),
    Refusal("digest taken away", drop("spec.baseDigest"), "baseDigest is set once"),
)
REVISION_CHANGES = names(
    Refusal("version", put("spec.adapter.version", "v2"), "spec is immutable"),
    Refusal("prompt", put("spec.task", {"systemPrompt": "Extract."}), "spec is immutable"),
    Refusal("adapter taken away", drop("spec.adapter"), "spec is immutable"),
)
