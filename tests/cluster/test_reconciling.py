"""What is applied, edited, deleted and applied again leads to the state that the specs ask for, by the smallest way."""

import threading
from collections.abc import Callable, Iterator

import pytest

from taskfleet import names
from tests.cluster.api import (
    CHILDREN,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    NAMESPACE,
    NETWORK_POLICY,
    POD,
    POOL,
    REVISION,
    SERVICE,
    SERVICE_ACCOUNT,
    TASK_MODEL,
    ApiError,
    Kind,
    Object,
    condition,
    eventually,
    is_true,
)
from tests.cluster.fleet import Fleet, Tenant
from tests.cluster.load import constant_load
from tests.cluster.oracles import foreign, identities, minimal, no_orphan, ready, refused_clearly, settled, standing, still, warnings
from tests.cluster.states import same_state, state
from tests.cluster.story import tell

BACK_SECONDS = 30.0


@pytest.fixture(scope="module")
def team(fleet: Fleet) -> Iterator[Tenant]:
    """A namespace with one task that all tests of this module leave as they find it."""
    with fleet.tenant("reconciling") as tenant:
        tenant.apply("steady", fleet.artifact("steady"))
        ready(fleet.api, tenant.namespace)
        yield tenant


def children(fleet: Fleet, tenant: Tenant) -> list[tuple[Kind, Object]]:
    labels = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
    found = [(kind, obj) for kind in CHILDREN for obj in fleet.api.list(kind, tenant.namespace, labels=labels)]
    assert {kind.kind for kind, _ in found} == {kind.kind for kind in CHILDREN}, tell(fleet.api, tenant.namespace)
    return found


def test_applying_the_same_twenty_times_changes_nothing(fleet: Fleet, team: Tenant) -> None:
    before = still(fleet.api, team.namespace)
    for _ in range(20):
        team.apply("steady", fleet.artifact("steady"))
    # Something that the operator does handle, in the same queue: by then it has seen the twenty.
    team.apply("later", None, suspend=True)
    eventually(lambda: team.get("later").get("status", {}).get("observedGeneration") == 1, what="the later task was looked at")
    team.remove("later")
    after = standing(fleet.api, team.namespace)
    changed = {name for name, version in before.versions.items() if after.versions.get(name) != version}
    assert not changed, tell(fleet.api, team.namespace)


def test_deleted_children_come_back(fleet: Fleet, team: Tenant) -> None:
    before = {(kind, obj["metadata"]["name"]): obj["metadata"]["uid"] for kind, obj in children(fleet, team)}
    for kind, name in before:
        fleet.api.delete(kind, name, team.namespace)

    def all_back() -> bool:
        for (kind, name), uid in before.items():
            found = fleet.api.find(kind, name, team.namespace)
            assert found, f"{kind.kind}/{name} is missing"
            assert found["metadata"]["uid"] != uid, f"{kind.kind}/{name} was never gone"
        return True

    eventually(all_back, what="deleted children are back", within=BACK_SECONDS, describe=lambda: tell(fleet.api, team.namespace))
    ready(fleet.api, team.namespace)
    assert fleet.artifact("steady").mark in eventually(lambda: team.chat("steady").text, what="an answer from the new pod")


# One owned field of each kind, and how a stranger might break it.
EDITS: dict[Kind, list[Object]] = {
    DEPLOYMENT: [{"op": "replace", "path": "/spec/replicas", "value": 2}],
    SERVICE: [{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 9999}],
    CONFIG_MAP: [{"op": "replace", "path": "/data/desired.json", "value": "{}"}],
    DISRUPTION_BUDGET: [{"op": "replace", "path": "/spec/selector", "value": {"matchLabels": {"app": "other"}}}],
    NETWORK_POLICY: [{"op": "replace", "path": "/spec/podSelector", "value": {"matchLabels": {"app": "other"}}}],
    SERVICE_ACCOUNT: [{"op": "replace", "path": "/automountServiceAccountToken", "value": True}],
}
FOREIGN = {"example.com/owner": "somebody-else"}


def test_edited_children_get_their_owned_fields_back_and_keep_foreign_ones(fleet: Fleet, team: Tenant) -> None:
    still(fleet.api, team.namespace)
    before = without_foreign(state(fleet.api, team.namespace))
    for kind, obj in children(fleet, team):
        name = obj["metadata"]["name"]
        fleet.api.patch(kind, name, team.namespace, change={"metadata": {"labels": FOREIGN, "annotations": FOREIGN}})
        fleet.api.patch(kind, name, team.namespace, change=EDITS[kind], json_patch=True)

    def restored() -> bool:
        for _, obj in children(fleet, team):
            labels, annotations = obj["metadata"]["labels"], obj["metadata"]["annotations"]
            assert {labels.get(name) for name in FOREIGN} == {annotations.get(name) for name in FOREIGN} == {"somebody-else"}, obj["kind"]
        same_state(before, without_foreign(state(fleet.api, team.namespace)), what="owned fields are not back")
        return True

    eventually(restored, what="owned fields are back", within=2 * BACK_SECONDS, describe=lambda: tell(fleet.api, team.namespace))
    assert fleet.artifact("steady").mark in team.chat("steady").text


def without_foreign(found: dict[str, Object]) -> dict[str, Object]:
    for obj in found.values():
        for place in ("labels", "annotations"):
            for name in FOREIGN:
                obj["metadata"].get(place, {}).pop(name, None)
            if not obj["metadata"].get(place):
                obj["metadata"].pop(place, None)
    return found


def test_foreign_sidecar_is_kept_and_the_only_pod_rolls_without_an_error(fleet: Fleet, team: Tenant) -> None:
    """A mesh adds its proxy to the template, and takes it away: the pods roll once each time, and nobody fights over it."""
    (deployment,) = fleet.api.list(DEPLOYMENT, team.namespace)
    proxy = {
        "name": "mesh",
        "image": "taskfleet.local/engine-simulator:dev",
        "command": ["/bin/sh", "-c", "trap exit TERM; while true; do sleep 1; done"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    metadata = {"name": deployment["metadata"]["name"], "namespace": team.namespace}
    change = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}

    def rolled(containers: int) -> Callable[[], bool]:
        def check() -> bool:
            pods = fleet.api.list(POD, team.namespace)
            assert [len(pod["spec"]["containers"]) for pod in pods] == [containers]
            return all(is_true(pod, "Ready") for pod in pods)

        return check

    with constant_load(fleet.gateway_url, [team.target("steady", fleet.artifact("steady"))], rate=10) as load:
        for containers, template in ((2, {"spec": {"containers": [proxy]}}), (1, None)):
            fleet.api.apply(change | {"spec": {"template": template} if template else {}}, manager="mesh-injector")
            what = f"the only pod with {containers} containers"
            eventually(rolled(containers), what=what, within=180, describe=lambda: tell(fleet.api, team.namespace))
            ready(fleet.api, team.namespace)
            load.wait_for(10)
    load.assert_no_error()


def test_stripped_owner_references_are_restored(fleet: Fleet, team: Tenant) -> None:
    owned = [*children(fleet, team), *((kind, obj) for kind in (REVISION, POOL) for obj in fleet.api.list(kind, team.namespace))]
    before = {(kind, obj["metadata"]["name"]): sorted(owner["uid"] for owner in obj["metadata"]["ownerReferences"]) for kind, obj in owned}
    for kind, name in before:
        fleet.api.patch(kind, name, team.namespace, change=[{"op": "remove", "path": "/metadata/ownerReferences"}], json_patch=True)

    def restored() -> bool:
        for (kind, name), owners in before.items():
            found = fleet.api.get(kind, name, team.namespace)["metadata"].get("ownerReferences", [])
            assert sorted(owner["uid"] for owner in found) == owners, f"{kind.kind}/{name} is owned by {found}"
        return True

    eventually(restored, what="owner references are back", within=BACK_SECONDS, describe=lambda: tell(fleet.api, team.namespace))


def test_changed_default_class_moves_nobody(fleet: Fleet, team: Tenant) -> None:
    with fleet.tenant("default-class") as tenant:
        tenant.apply("settled", fleet.artifact("steady"), serving_class=None)
        ready(fleet.api, tenant.namespace)
        before = identities(fleet.api, tenant.namespace, team.namespace)
        fleet.serving_class("other-default", default=True)
        fleet.serving_class("simulator", default=False)
        try:
            tenant.apply("newcomer", fleet.artifact("newcomer"), serving_class=None)
            ready(fleet.api, tenant.namespace)
            assert tenant.get("newcomer")["status"]["servingClassName"] == "other-default"
            assert tenant.get("settled")["status"]["servingClassName"] == "simulator"
            minimal(before, identities(fleet.api, tenant.namespace, team.namespace))
        finally:
            fleet.serving_class("simulator", default=True)
            fleet.remove_class("other-default")


def test_two_tasks_join_and_one_leaves_in_the_same_second(fleet: Fleet) -> None:
    with fleet.tenant("joining") as tenant:
        tenant.apply("stays", fleet.artifact("stays"))
        tenant.apply("leaves", fleet.artifact("leaves"))
        ready(fleet.api, tenant.namespace)
        before = identities(fleet.api, tenant.namespace)
        others = foreign(fleet.api, tenant.namespace)
        with constant_load(fleet.gateway_url, [tenant.target("stays", fleet.artifact("stays"))], rate=10) as load:
            steps: list[Callable[[], object]] = [
                lambda: tenant.apply("joins-1", fleet.artifact("joins-1")),
                lambda: tenant.apply("joins-2", fleet.artifact("joins-2")),
                lambda: tenant.remove("leaves"),
            ]
            threads = [threading.Thread(target=step) for step in steps]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            ready(fleet.api, tenant.namespace, "stays", "joins-1", "joins-2")

            def members() -> bool:
                found = sorted(member["taskModel"] for pool in fleet.api.list(POOL, tenant.namespace) for member in pool["spec"]["members"])
                assert found == ["joins-1", "joins-2", "stays"], found
                return True

            eventually(members, what="three members", describe=lambda: tell(fleet.api, tenant.namespace))
        load.assert_no_error()
        after = identities(fleet.api, tenant.namespace)
        pods = {name: uid for name, uid in before.uids.items() if name.startswith(("Pod/", "Deployment/", "ModelPool/"))}
        minimal(type(before)(pods, before.restarts), after)
        for name in ("joins-1", "joins-2"):
            assert fleet.artifact(name).mark in tenant.chat(name).text

        for name in ("stays", "joins-1", "joins-2"):
            tenant.remove(name)
        no_orphan(fleet.api, tenant.namespace, others=others)


def test_edits_lead_where_their_last_one_leads(fleet: Fleet) -> None:
    """O4 and O5: there and back equals never having gone, and a fresh start with the last spec leads to the same state."""
    with fleet.tenant("paths") as tenant:
        one, two = fleet.artifact("paths", "v1"), fleet.artifact("paths", "v2")
        tenant.apply("wanders", one)
        ready(fleet.api, tenant.namespace)
        first = quiet_state(fleet, tenant)
        tenant.apply("wanders", two, task={"systemPrompt": "Say less."}, scaling={"idleSeconds": 77})
        ready(fleet.api, tenant.namespace)
        tenant.apply("wanders", fleet.artifact("paths"))
        ready(fleet.api, tenant.namespace)
        same_state(first, quiet_state(fleet, tenant), what="going back did not lead back")
        others = foreign(fleet.api, tenant.namespace)
        tenant.remove("wanders")
        no_orphan(fleet.api, tenant.namespace, others=others)
        tenant.apply("wanders", one)
        ready(fleet.api, tenant.namespace)
        same_state(first, quiet_state(fleet, tenant), what="a fresh start leads elsewhere")


def quiet_state(fleet: Fleet, tenant: Tenant) -> dict[str, Object]:
    """The state once old members have left the pools."""

    def drained() -> bool:
        phases = [task["status"]["rollout"]["phase"] for task in fleet.api.list(TASK_MODEL, tenant.namespace)]
        members = [member for pool in fleet.api.list(POOL, tenant.namespace) for member in pool["spec"]["members"]]
        assert set(phases) == {"Done"}, phases
        assert len(members) == len(phases), members
        return True

    eventually(drained, what="old members left", describe=lambda: tell(fleet.api, tenant.namespace))
    still(fleet.api, tenant.namespace)
    return state(fleet.api, tenant.namespace)


def test_missing_class_is_refused_clearly_and_heals_by_itself(fleet: Fleet, team: Tenant) -> None:
    team.apply("classless", fleet.artifact("steady"), serving_class="not-there-yet")
    refused_clearly(fleet.api, team.namespace, "classless", reason="ServingClassNotFound", mentions="not-there-yet")
    fleet.serving_class("not-there-yet")
    try:
        ready(fleet.api, team.namespace, "classless")
        assert fleet.artifact("steady").mark in team.chat("classless").text
    finally:
        team.remove("classless")
        fleet.remove_class("not-there-yet")


def test_class_of_other_namespaces_is_refused_clearly(fleet: Fleet, team: Tenant) -> None:
    fleet.serving_class("members-only", allowedNamespaces={"names": ["somewhere-else"]})
    team.apply("uninvited", fleet.artifact("steady"), serving_class="members-only")
    try:
        refused_clearly(fleet.api, team.namespace, "uninvited", reason="ServingClassNotAllowed", mentions="members-only")
    finally:
        team.remove("uninvited")
        fleet.remove_class("members-only")


def test_missing_credentials_are_named(fleet: Fleet, team: Tenant) -> None:
    team.apply("locked", fleet.artifact("locked"), adapter={"credentialsKey": "no-such-entry"})

    def named() -> bool:
        found = condition(team.get("locked"), "AdapterReady")
        assert found, "no condition AdapterReady"
        assert found["status"] == "False", found
        assert found["reason"] == "CredentialsMissing", found
        return "no-such-entry" in found["message"]

    try:
        eventually(named, what="the missing entry is named", describe=lambda: tell(fleet.api, team.namespace))
        settled(fleet.api, team.namespace)
        (warning,) = warnings(fleet.api, team.namespace, "locked")
        assert warning["reason"] == "CredentialsMissing"
        assert "no-such-entry" in warning["note"]
    finally:
        team.remove("locked")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"engine": {"resources": {"requests": {"cpu": "1.2.3"}}}}, "spec.engine.resources.requests"),
        ({"engine": {"sharedMemory": "much"}}, "spec.engine.sharedMemory"),
        ({"scaling": {"minReplicas": 1000}}, "spec.scaling.minReplicas"),
        ({"adapters": {"maxRank": 1_000_000}}, "spec.adapters.maxRank"),
        ({"adapters": {"maxPerPool": 10_000}}, "spec.adapters.maxPerPool"),
    ],
)
def test_invalid_quantities_are_refused_by_the_api_server(fleet: Fleet, spec: Object, field: str) -> None:
    with pytest.raises(ApiError) as refused:
        fleet.serving_class("absurd", **spec)
    assert refused.value.status == 422
    assert field in refused.value.message


@pytest.mark.parametrize("name", ["Capital", "a.b", "x" * 51])
def test_invalid_names_are_refused_by_the_api_server(fleet: Fleet, team: Tenant, name: str) -> None:
    with pytest.raises(ApiError) as refused:
        team.apply(name, None)
    assert refused.value.status == 422


def test_namespace_with_ten_tasks_goes_within_three_minutes(fleet: Fleet) -> None:
    with fleet.tenant("crowd") as tenant:
        for number in range(10):
            tenant.apply(f"task-{number}", fleet.artifact("steady"))
        eventually(lambda: len(fleet.api.list(DEPLOYMENT, tenant.namespace)) == 2, what="ten tasks make two pools of at most eight")
        fleet.api.delete(NAMESPACE, tenant.namespace)
        eventually(lambda: fleet.api.find(NAMESPACE, tenant.namespace) is None, what="the namespace is gone", within=180)
