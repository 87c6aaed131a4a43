"""What the operator says of input that it can't act on, and how that comes right."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.apiserver.conftest import ApiServer
from tests.apiserver.objects import changed, claim, drop, put, serving_class, task_model
from tests.apiserver.operator_process import OperatorProcess, running_operator
from tests.cluster.api import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    POOL,
    REVISION,
    SERVING_CLASS,
    TASK_MODEL,
    Api,
    Object,
    condition,
    eventually,
    is_true,
)
from tests.cluster.oracles import refused_clearly, settled, silent, summary
from tests.cluster.states import same_state, state

DEFAULT = {"taskfleet.dev/is-default-class": "true"}
CLASSES: tuple[Object, ...] = (
    serving_class("plain"),
    changed(serving_class("elsewhere-only"), put("spec.allowedNamespaces", {"names": ["elsewhere"], "matchLabels": {"gpu": "yes"}})),
    changed(serving_class("unsafe"), put("spec.engine.args", ["--host=0.0.0.0"])),
    # The schema hands affinity through to Kubernetes, which is the first to read it.
    changed(serving_class("unreadable"), put("spec.scheduling", {"affinity": {"nodeAffinity": "nonsense"}})),
)


@pytest.fixture(scope="module")
def operator(
    api_server: ApiServer, new_namespace: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    for one in CLASSES:
        api_server.api.apply(one)
    with running_operator(api_server, tmp_path_factory.mktemp("operator"), namespace=new_namespace("operator")) as found:
        yield found
    for one in CLASSES:
        api_server.api.delete(SERVING_CLASS, one["metadata"]["name"])


@pytest.fixture
def namespace(operator: OperatorProcess, new_namespace: Callable[[str], str]) -> str:
    return new_namespace("conditions")


def good(namespace: str, name: str = "one") -> Object:
    return changed(task_model(namespace, name), put("spec.servingClassName", "plain"))


REFUSED = {
    "class-missing": (put("spec.servingClassName", "no-such-class"), "ServingClassNotFound", "no-such-class"),
    "class-not-allowed": (put("spec.servingClassName", "elsewhere-only"), "ServingClassNotAllowed", "elsewhere-only"),
    "class-invalid": (put("spec.servingClassName", "unsafe"), "ServingClassInvalid", "--host"),
    "no-class": (drop("spec.servingClassName"), "NoDefaultClass", "spec.servingClassName"),
    "base-claim": (put("spec.base.source", "pvc://models"), "ClaimNotOffered", "spec.base.source"),
    "adapter-claim": (put("spec.adapter.source", "pvc://models/total"), "ClaimNotOffered", "spec.adapter.source"),
    "schema": (put("spec.task", {"outputSchema": '{"type": "objekt"}'}), "InvalidSchema", "spec.task.outputSchema"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cant_be_served_is_refused_clearly_and_comes_right_when_it_is_mended(api_server: ApiServer, namespace: str, case: str) -> None:
    """R-08, O5, O10."""
    api = api_server.api
    change, reason, mentions = REFUSED[case]
    api.apply(changed(good(namespace), change))
    task = refused_clearly(api, namespace, "one", reason=reason, mentions=mentions)
    assert not is_true(task, "Accepted")
    assert not api.list(POOL, namespace), "nothing was made for it"
    silent(api, namespace, seconds=2)
    api.apply(good(namespace))
    eventually(lambda: is_true(api.get(TASK_MODEL, "one", namespace), "Accepted"), what="accepted")
    eventually(lambda: api.list(DEPLOYMENT, namespace) or None, what="its pool is made")
    settled(api, namespace)


def test_going_back_from_what_cant_be_served_is_as_if_nothing_had_been(api_server: ApiServer, namespace: str) -> None:
    """R-09, O4, O5."""
    api = api_server.api
    api.apply(good(namespace))
    eventually(lambda: api.list(DEPLOYMENT, namespace) or None, what="its pool is made")
    calm(api, namespace)
    before = state(api, namespace)
    api.apply(changed(good(namespace), put("spec.adapter.source", "pvc://models/total")))
    refused_clearly(api, namespace, "one", reason="ClaimNotOffered", mentions="spec.adapter.source")
    eventually(lambda: not api.list(POOL, namespace), what="what never served and is no longer asked for is gone")
    api.apply(good(namespace))
    eventually(lambda: api.list(DEPLOYMENT, namespace) or None, what="its pool is made again")
    calm(api, namespace)
    same_state(before, state(api, namespace), what="back at the good spec")


def test_a_class_that_comes_later_is_noticed(api_server: ApiServer, namespace: str) -> None:
    api = api_server.api
    api.apply(changed(good(namespace), put("spec.servingClassName", "late")))
    refused_clearly(api, namespace, "one", reason="ServingClassNotFound", mentions="late")
    api.apply(serving_class("late"))
    try:
        eventually(lambda: is_true(api.get(TASK_MODEL, "one", namespace), "Accepted"), what="accepted")
    finally:
        api.delete(SERVING_CLASS, "late")


def test_a_claim_is_mounted_once_it_is_offered_and_only_then(api_server: ApiServer, namespace: str) -> None:
    """Without its label a claim of somebody's database could be read as an adapter."""
    api = api_server.api
    api.apply(claim(namespace, "models", offered=False))
    api.apply(good(namespace, "neighbour"))
    eventually(lambda: api.list(DEPLOYMENT, namespace) or None, what="the pool is made")
    settled(api, namespace)
    template = pod_template(api, namespace)
    api.apply(changed(good(namespace), put("spec.adapter.source", "pvc://models/total")))
    task = refused_clearly(api, namespace, "one", reason="ClaimNotOffered", mentions="taskfleet.dev/artifacts: 'true'")
    assert not is_true(task, "Accepted")
    assert pod_template(api, namespace) == template, "the neighbour is not touched"

    api.apply(claim(namespace, "models", offered=True))
    eventually(lambda: claims(api, namespace) == ["models"], what="the pool mounts the claim")
    eventually(lambda: is_true(api.get(TASK_MODEL, "one", namespace), "Accepted"), what="accepted")
    mounted = pod_template(api, namespace)

    api.apply(changed(good(namespace, "two"), put("spec.adapter.source", "pvc://models/other")))
    eventually(lambda: is_true(api.get(TASK_MODEL, "two", namespace), "Assigned"), what="the second one is assigned")
    settled(api, namespace)
    assert pod_template(api, namespace) == mounted, "another member of the same claim rolls nothing"

    api.apply(claim(namespace, "models", offered=False))
    refused_clearly(api, namespace, "two", reason="ClaimNotOffered", mentions="models")


def pod_template(api: Api, namespace: str) -> Object:
    (deployment,) = api.list(DEPLOYMENT, namespace)
    found: Object = deployment["spec"]["template"]
    return found


def claims(api: Api, namespace: str) -> list[str]:
    volumes = pod_template(api, namespace)["spec"]["volumes"]
    return [one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one]


def test_a_namespace_that_gets_the_label_may_use_the_class(api_server: ApiServer, namespace: str) -> None:
    api = api_server.api
    api.apply(changed(good(namespace), put("spec.servingClassName", "elsewhere-only")))
    refused_clearly(api, namespace, "one", reason="ServingClassNotAllowed", mentions="elsewhere-only")
    api_server.kubectl("label", "namespace", namespace, "gpu=yes")
    eventually(lambda: is_true(api.get(TASK_MODEL, "one", namespace), "Accepted"), what="accepted")


def test_another_default_class_moves_nobody(api_server: ApiServer, namespace: str) -> None:
    """R-41."""
    api = api_server.api
    first, second = serving_class("default-one"), serving_class("default-two")
    try:
        api.apply(changed(first, put("metadata.annotations", DEFAULT)))
        api.apply(changed(good(namespace), drop("spec.servingClassName")))
        eventually(lambda: api.list(POOL, namespace) or None, what="its pool is made")
        calm(api, namespace)
        before = state(api, namespace)
        api.apply(changed(second, put("metadata.annotations", DEFAULT)))
        api.apply(first)
        api.apply(changed(good(namespace, "two"), drop("spec.servingClassName")))
        eventually(lambda: len(api.list(POOL, namespace)) == 2, what="the new one is on the new default")
        calm(api, namespace)
        classes = {task["metadata"]["name"]: task["status"]["servingClassName"] for task in api.list(TASK_MODEL, namespace)}
        assert classes == {"one": "default-one", "two": "default-two"}
        api.delete(TASK_MODEL, "two", namespace)
        eventually(lambda: len(api.list(POOL, namespace)) == 1, what="the second pool is gone")
        calm(api, namespace)
        same_state(before, state(api, namespace), what="the first one did not move")
    finally:
        for one in (first, second):
            api.delete(SERVING_CLASS, one["metadata"]["name"])


def test_fields_without_effect_are_named_and_change_nothing(api_server: ApiServer, namespace: str) -> None:
    api = api_server.api
    later = changed(
        good(namespace),
        put("spec.rollout", {"strategy": "Canary", "steps": [{"weightPercent": 10}]}),
        put("spec.scaling", {"minReplicas": 1, "maxReplicas": 4}),
        put("spec.savings", {"reference": {"name": "large", "inputPricePerMillion": "3", "outputPricePerMillion": "15"}}),
    )
    api.apply(later)
    eventually(lambda: api.list(DEPLOYMENT, namespace) or None, what="its pool is made")
    calm(api, namespace)
    task = api.get(TASK_MODEL, "one", namespace)
    assert is_true(task, "Accepted")
    found = condition(task, "FieldsWithoutEffect") or {}
    assert found["status"] == "True"
    assert "spec.rollout" not in found["message"]
    assert "spec.scaling" not in found["message"]
    assert "spec.savings" in found["message"]
    api.apply(good(namespace))
    eventually(lambda: condition(api.get(TASK_MODEL, "one", namespace), "FieldsWithoutEffect") is None, what="the condition goes")


ALWAYS = {"name": "always", "timeZone": "Europe/Berlin", "start": "* * * * *", "end": "0 0 29 2 *", "minReplicas": 2}


def test_an_active_schedule_has_its_pods_and_says_so(api_server: ApiServer, namespace: str) -> None:
    api = api_server.api
    seldom = {"name": "seldom", "start": "0 0 29 2 *", "end": "* * * * *", "minReplicas": 3}
    api.apply(changed(good(namespace), put("spec.scaling", {"maxReplicas": 3, "schedules": [ALWAYS, seldom]})))

    def told() -> Object | None:
        scaling: Object = next(iter(api.list(POOL, namespace)), {}).get("status", {}).get("scaling", {})
        return scaling if scaling.get("reason") == "Scheduled" and scaling["desiredReplicas"] == 2 else None

    scaling = eventually(told, what="the pool says that its schedule keeps two")
    assert scaling is not None
    assert "schedule always of one keeps 2 until 2028-02-29 00:00 Europe/Berlin" in scaling["message"]
    until = "2028-02-28T23:00:00Z"
    assert scaling["floor"] == {"replicas": 2, "source": "Schedule", "taskModel": "one", "schedule": "always", "until": until}
    eventually(lambda: api.list(DEPLOYMENT, namespace)[0]["spec"]["replicas"] == 2, what="the pods are asked for")
    # There is no gateway here, which is the reason from then on; the schedule is told all the same.
    calm(api, namespace)
    assert api.list(POOL, namespace)[0]["status"]["scaling"]["floor"] == scaling["floor"]


def test_a_schedule_that_can_not_be_kept_is_named_and_comes_right(api_server: ApiServer, namespace: str) -> None:
    """A day that never comes fits every pattern."""
    api = api_server.api
    never = ALWAYS | {"name": "never", "start": "0 8 30 2 *"}
    api.apply(changed(good(namespace), put("spec.scaling.schedules", [ALWAYS, never])))
    refused_clearly(api, namespace, "one", reason="InvalidSpec", mentions="spec.scaling.schedules[never].start: 0 8 30 2 *")
    api.apply(changed(good(namespace), put("spec.scaling.schedules", [ALWAYS])))
    eventually(lambda: is_true(api.get(TASK_MODEL, "one", namespace), "Accepted"), what="it comes right")
    eventually(lambda: [pool["spec"]["replicas"] for pool in api.list(POOL, namespace)] == [2], what="the schedule has its pods")


def test_a_forecast_goes_on_with_what_was_learned_before(api_server: ApiServer, namespace: str) -> None:
    """Forty requests at a time on each of the last three days are three pods of sixteen."""
    api = api_server.api
    api.apply(good(namespace))
    eventually(lambda: [pool["spec"]["replicas"] for pool in api.list(POOL, namespace)] == [1], what="its pool is made")
    task = api.get(TASK_MODEL, "one", namespace)["metadata"]
    today = datetime.now(UTC).date()
    owner = {"apiVersion": "taskfleet.dev/v1alpha1", "kind": "TaskModel", "name": "one", "uid": task["uid"]}
    labels = {"app.kubernetes.io/managed-by": "taskfleet"}
    api.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "one-demand", "namespace": namespace, "labels": labels, "ownerReferences": [owner]},
            # Today's may become yesterday's.
            "data": {(today - timedelta(days=ago)).isoformat(): " ".join(["40"] * 96) for ago in range(4)},
        }
    )
    # The operator reads it when it first hears of the forecast.
    eventually(lambda: api.get(CONFIG_MAP, "one-demand", namespace), what="the record is there")
    calm(api, namespace)
    api.apply(changed(good(namespace), put("spec.scaling", {"minReplicas": 1, "maxReplicas": 4, "forecast": {}})))

    def told() -> bool:
        scaling = api.list(POOL, namespace)[0]["status"].get("scaling", {})
        return bool(scaling["desiredReplicas"] == 3 and scaling.get("floor", {}).get("source") == "Forecast")

    eventually(told, what="the pool has what is usual", within=90)
    assert "forecast for one keeps 3 until " in api.list(POOL, namespace)[0]["status"]["scaling"]["message"]


def test_a_suspended_task_is_left_as_it_is(api_server: ApiServer, namespace: str) -> None:
    """R-39, as far as there are rollouts."""
    api = api_server.api
    api.apply(good(namespace))
    eventually(lambda: api.list(DEPLOYMENT, namespace) or None, what="its pool is made")
    calm(api, namespace)
    revisions, pools = api.list(REVISION, namespace), api.list(POOL, namespace)[0]["spec"]
    next_version = changed(good(namespace), put("spec.adapter.version", "v2"))
    api.apply(changed(next_version, put("spec.suspend", True)))
    eventually(lambda: condition(api.get(TASK_MODEL, "one", namespace), "Ready")["reason"] == "Suspended", what="said")  # type: ignore[index]
    calm(api, namespace)
    assert [one["metadata"]["uid"] for one in api.list(REVISION, namespace)] == [one["metadata"]["uid"] for one in revisions]
    assert api.list(POOL, namespace)[0]["spec"] == pools
    api.apply(next_version)
    eventually(lambda: [one["spec"]["adapter"]["version"] for one in api.list(REVISION, namespace)] == ["v2"], what="it goes on")


def test_what_the_api_server_refuses_is_told_without_a_storm_and_comes_right(
    api_server: ApiServer, operator: OperatorProcess, namespace: str
) -> None:
    """Server-side apply answers 500 for what it can't read; retried for ever, that would be a storm."""
    api = api_server.api
    api.apply(changed(good(namespace), put("spec.servingClassName", "unreadable")))

    def told() -> bool:
        task = api.get(TASK_MODEL, "one", namespace)
        ready = condition(task, "Ready")
        assert summary(task) == "Stalled", ready
        return ready is not None and "nodeAffinity" in ready["message"]

    eventually(told, what="the API server's words are told")
    calm(api, namespace)
    asked = operator.metric("taskfleet_kube_requests_total", verb="apply", resource="deployments")
    silent(api, namespace, seconds=5)
    assert operator.metric("taskfleet_kube_requests_total", verb="apply", resource="deployments") <= asked + 1
    api.apply(serving_class("unreadable"))
    try:
        eventually(lambda: api.list(DEPLOYMENT, namespace) or None, what="the Deployment is made")
        eventually(lambda: summary(api.get(TASK_MODEL, "one", namespace)) == "Reconciling", what="it starts")
    finally:
        api.apply(CLASSES[-1])


def test_a_class_says_whether_it_is_usable(api_server: ApiServer, operator: OperatorProcess) -> None:
    api = api_server.api
    operator.brings(lambda: summary(api.get(SERVING_CLASS, "plain")) == "Ready", what="the plain class is usable")
    operator.brings(lambda: summary(api.get(SERVING_CLASS, "unsafe")) == "Stalled", what="the unsafe one is not")
    uid = api.get(SERVING_CLASS, "unsafe")["metadata"]["uid"]
    about = [event for event in api.list(EVENT, "default") if event.get("regarding", {}).get("uid") == uid]
    assert [event["type"] for event in about] == ["Warning"]


def calm(api: Api, namespace: str) -> None:
    """Settled, and Kubernetes' own controllers have done their part, too."""

    def still() -> bool:
        settled(api, namespace)
        silent(api, namespace, seconds=2.5)
        return True

    eventually(still, what=f"{namespace} is calm", within=90)
