"""A release of the chart in a real API server: installed, upgraded, uninstalled; and what its roles and its admission policy let whom do."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from taskfleet.gateway.feedback_keys import FIELD_MANAGER
from taskfleet.names import FEEDBACK_SECRET
from tests.apiserver.chart import CASES, CHART, arguments, render
from tests.apiserver.conftest import ApiServer
from tests.apiserver.objects import changed, pool, put, revision, task_model
from tests.cluster.api import KINDS, SECRET, TASK_MODEL, ApiError, Object, eventually
from tests.released.last import Release, last_release

SYSTEM = "taskfleet-system"
RELEASE = "taskfleet"
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def release(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The chart, installed; the arguments that install it again."""
    values = arguments(CASES[0], tmp_path_factory.mktemp("values"))
    # The definitions are there already, from before the chart.
    command = ["upgrade", "--install", RELEASE, str(CHART), "-n", SYSTEM, "--create-namespace", "--take-ownership", *values]
    api_server.helm(*command)
    yield command
    api_server.helm("uninstall", RELEASE, "-n", SYSTEM, "--ignore-not-found")


@pytest.fixture(scope="module")
def namespace(new_namespace: Callable[[str], str]) -> str:
    return new_namespace("tenant")


def account(api_server: ApiServer, name: str, namespace: str, *, role: str = "", rules: list[Object] | None = None) -> str:
    """A ServiceAccount of the namespace with a ClusterRole's rights there, or with rules of its own; its token for the API server."""
    head = {"name": name, "namespace": namespace}
    api_server.api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": head})
    group = "rbac.authorization.k8s.io"
    if rules is not None:
        api_server.api.apply({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": head, "rules": rules})
    if role or rules is not None:
        reference = {"apiGroup": group, "kind": "ClusterRole" if role else "Role", "name": role or name}
        subject = {"kind": "ServiceAccount", **head}
        api_server.api.apply(
            {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": head, "roleRef": reference, "subjects": [subject]}
        )
    return api_server.api.token(name, namespace)


def may(
    api_server: ApiServer, token: str, verb: str, resource: str, namespace: str, *, group: str = "taskfleet.dev", name: str = ""
) -> bool:
    kind, _, subresource = resource.partition("/")
    return api_server.api.may(token, verb=verb, resource=kind, subresource=subresource, group=group, namespace=namespace, name=name)


EVERYTHING: list[Object] = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]


@pytest.mark.usefixtures("release")
def test_a_tenant_with_all_rights_in_a_namespace_cannot_write_the_operators_records(api_server: ApiServer, namespace: str) -> None:
    tenant = account(api_server, "owner", namespace, rules=EVERYTHING)
    for record in (pool(namespace, "forged"), revision(namespace, "forged")):
        # A new policy takes a moment to reach the API server's admission.
        eventually(lambda record=record: refusal(api_server, record, tenant), what="the record is refused", within=60)  # type: ignore[misc]
    api_server.api.apply(task_model(namespace), token=tenant)


def refusal(api_server: ApiServer, record: Object, token: str) -> bool:
    try:
        api_server.api.apply(record, token=token, dry_run=True)
    except ApiError as error:
        return error.status == 403 and "declare a TaskModel instead" in error.message
    return False


@pytest.mark.usefixtures("release")
def test_the_operator_writes_its_records_and_others_may_change_their_metadata(api_server: ApiServer, namespace: str) -> None:
    operator = api_server.api.token("taskfleet-operator", SYSTEM)
    record = pool(namespace, "genuine")
    api_server.api.apply(record, token=operator)
    tenant = account(api_server, "labeller", namespace, rules=EVERYTHING)
    head = {key: record[key] for key in ("apiVersion", "kind", "metadata")}
    labelled = api_server.api.apply(changed(head, put("metadata.labels", {"team": "a"})), token=tenant, manager="labeller")
    assert labelled["metadata"]["labels"] == {"team": "a"}
    wish = changed(head, put("spec", record["spec"] | {"replicas": 9}))
    with pytest.raises(ApiError, match="declare a TaskModel instead"):
        api_server.api.apply(wish, token=tenant, manager="labeller")


@pytest.mark.usefixtures("release")
def test_the_operator_may_do_what_it_must_and_nothing_with_secrets(api_server: ApiServer, namespace: str) -> None:
    operator = api_server.api.token("taskfleet-operator", SYSTEM)
    assert may(api_server, operator, "patch", "taskmodels/status", namespace)
    assert may(api_server, operator, "create", "deployments", namespace, group="apps")
    assert not may(api_server, operator, "patch", "taskmodels", namespace)
    assert not may(api_server, operator, "delete", "taskmodels", namespace)
    assert not may(api_server, operator, "create", "taskmodels/invoke", namespace)
    for verb in ("get", "list", "watch", "create", "patch"):
        assert not may(api_server, operator, verb, "secrets", namespace, group="")
        assert not may(api_server, operator, verb, "secrets", SYSTEM, group="")
    assert not may(api_server, operator, "create", "pods", namespace, group="")
    assert not may(api_server, operator, "create", "pods/exec", namespace, group="")


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize(("own", "others"), [("taskfleet-operator", "taskfleet-gateway"), ("taskfleet-gateway", "taskfleet-operator")])
def test_each_part_mints_tokens_for_itself_only(api_server: ApiServer, own: str, others: str) -> None:
    token = api_server.api.token(own, SYSTEM)
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": ["a-pool"], "expirationSeconds": 600},
    }
    path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts"
    assert json.loads(api_server.api.request("POST", f"{path}/{own}/token", body=request, token=token))["status"]["token"]
    with pytest.raises(ApiError) as refused:
        api_server.api.request("POST", f"{path}/{others}/token", body=request, token=token)
    assert refused.value.status == 403


@pytest.mark.usefixtures("release")
def test_the_gateway_only_reads_and_asks(api_server: ApiServer, namespace: str) -> None:
    gateway = api_server.api.token("taskfleet-gateway", SYSTEM)
    assert may(api_server, gateway, "watch", "taskmodels", namespace)
    assert may(api_server, gateway, "watch", "endpointslices", namespace, group="discovery.k8s.io")
    for verb in ("create", "update", "patch", "delete"):
        for resource in ("taskmodels", "taskmodels/status", "modelpools", "taskmodelrevisions"):
            assert not may(api_server, gateway, verb, resource, namespace), (verb, resource)
    assert not may(api_server, gateway, "get", "secrets", namespace, group="")
    assert not may(api_server, gateway, "list", "pods", namespace, group="")


@pytest.mark.usefixtures("release")
def test_people_get_rights_by_kubernetes_own_roles(api_server: ApiServer, namespace: str) -> None:
    viewer = account(api_server, "viewer", namespace, role="view")
    editor = account(api_server, "editor", namespace, role="edit")
    admin = account(api_server, "admin", namespace, role="admin")
    # Aggregation is a controller's work.
    eventually(lambda: may(api_server, viewer, "get", "taskmodels", namespace), what="view is aggregated", within=60)
    eventually(lambda: may(api_server, editor, "create", "taskmodels", namespace), what="edit is aggregated", within=60)
    eventually(lambda: may(api_server, admin, "create", "taskmodels/invoke", namespace), what="admin is aggregated", within=60)
    assert not may(api_server, viewer, "create", "taskmodels", namespace)
    assert not may(api_server, editor, "create", "modelpools", namespace)
    assert not may(api_server, editor, "patch", "taskmodels/status", namespace)
    assert not may(api_server, editor, "create", "taskmodels/invoke", namespace)
    caller = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "caller", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "taskfleet-invoker"},
        "subjects": [{"kind": "ServiceAccount", "name": "viewer", "namespace": namespace}],
    }
    # Kubernetes refuses to pass on what one doesn't have.
    binds: Object = {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"], "verbs": ["create"]}
    granter = account(api_server, "granter", namespace, rules=[binds])
    # The authorizer hears of a new binding by its own watch: until then it refuses in other words.
    eventually(
        lambda: may(api_server, granter, "create", "rolebindings", namespace, group="rbac.authorization.k8s.io"),
        what="the granter may bind",
        within=60,
    )
    with pytest.raises(ApiError, match="attempting to grant RBAC permissions not currently held"):
        api_server.api.create(caller, token=granter)
    api_server.api.create(caller, token=admin)
    eventually(lambda: may(api_server, viewer, "create", "taskmodels/invoke", namespace), what="the viewer may call", within=60)
    assert not may(api_server, viewer, "create", "taskmodels/preview", namespace)


@pytest.mark.usefixtures("release")
def test_the_examples_callers_may_call_what_they_are_given(api_server: ApiServer) -> None:
    api_server.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "finance"}})
    for document in yaml.safe_load_all((EXAMPLES / "caller.yaml").read_text()):
        api_server.api.apply(document)
    of_all, of_one = (api_server.api.token(name, "finance") for name in ("bookkeeping", "mail-room"))

    def asked() -> list[bool]:
        return [
            may(api_server, token, "create", "taskmodels/invoke", "finance", name=task)
            for token in (of_all, of_one)
            for task in ("invoice-vendor", "invoice-total", "")
        ]

    eventually(lambda: asked() == [True, True, True, True, False, False], what="each may call what it is given, and no more", within=60)


def test_an_upgrade_upgrades_the_definitions_and_an_uninstall_keeps_objects(
    api_server: ApiServer, release: list[str], new_namespace: Callable[[str], str], tmp_path: Path
) -> None:
    namespace = new_namespace("kept")
    uid = api_server.api.apply(task_model(namespace))["metadata"]["uid"]
    definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/taskmodels.taskfleet.dev"
    older = {"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns/0"}
    api_server.api.request("PATCH", definition, body=[older], content_type="application/json-patch+json")
    before = columns(api_server, definition)
    # Helm compares with what it applied last: a release of another version is needed for it to write again.
    api_server.helm(*release, "--set", "crds.install=false")
    api_server.helm(*release)
    assert columns(api_server, definition) == ["READY", *before]
    api_server.helm("uninstall", RELEASE, "-n", SYSTEM)
    assert api_server.api.get(TASK_MODEL, "invoice-total", namespace)["metadata"]["uid"] == uid
    assert columns(api_server, definition) == ["READY", *before]
    api_server.helm(*release)
    assert api_server.api.get(TASK_MODEL, "invoice-total", namespace)["metadata"]["uid"] == uid


def test_the_gateways_key_stays_through_upgrades_and_other_tools_applies(api_server: ApiServer, release: list[str], tmp_path: Path) -> None:
    gateway = api_server.api.token("taskfleet-gateway", SYSTEM)
    head = {"name": FEEDBACK_SECRET, "namespace": SYSTEM}
    filled = {"apiVersion": "v1", "kind": "Secret", "metadata": head, "data": {"key-0": "YQ=="}}
    eventually(
        lambda: may(api_server, gateway, "patch", "secrets", SYSTEM, group="", name=FEEDBACK_SECRET), what="the gateway may write it"
    )
    assert not may(api_server, gateway, "get", "secrets", SYSTEM, group="", name="another")
    assert not may(api_server, gateway, "list", "secrets", SYSTEM, group="")
    api_server.api.apply(filled, token=gateway, manager=FIELD_MANAGER)
    api_server.helm(*release, "--set", "gateway.replicas=3")
    (rendered,) = (body for body in render(api_server, CASES[0], tmp_path) if body["kind"] == "Secret")
    manifest = json.dumps(rendered)
    # As Argo CD and Flux apply what they have rendered.
    api_server.kubectl("apply", "-f", "-", stdin=manifest)
    api_server.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
    assert api_server.api.get(SECRET, FEEDBACK_SECRET, SYSTEM)["data"] == filled["data"]
    api_server.helm(*release)
    assert api_server.api.get(SECRET, FEEDBACK_SECRET, SYSTEM)["data"] == filled["data"]


def columns(api_server: ApiServer, definition: str) -> list[str]:
    found = json.loads(api_server.api.request("GET", definition))
    return [column["name"] for column in found["spec"]["versions"][0]["additionalPrinterColumns"]]


def test_objects_of_the_last_release_are_the_same_after_the_upgrade_and_after_the_way_back(
    api_server: ApiServer, release: list[str], new_namespace: Callable[[str], str]
) -> None:
    kept = last_release()
    namespace = new_namespace("upgraded")
    values = ["--reset-values", "--set", "image.repository=registry.example/taskfleet"]
    api_server.helm("upgrade", "--install", RELEASE, str(kept.chart), "-n", SYSTEM, "--take-ownership", *values)
    manifests = list(recorded(kept, namespace))
    before = {body["metadata"]["name"]: api_server.api.apply(body) for body in manifests}

    assert "pools roll now" in api_server.helm("upgrade", RELEASE, str(CHART), "-n", SYSTEM, "--reset-then-reuse-values")
    unchanged(api_server, manifests, before)
    api_server.helm("rollback", RELEASE, "-n", SYSTEM)
    unchanged(api_server, manifests, before)
    api_server.helm(*release)


def recorded(kept: Release, namespace: str) -> Iterator[Object]:
    """Objects that people of that release have, as their manifests say them."""
    pools = kept.pools()
    kinds = {
        "ServingClass": [one["servingClass"] for one in pools["pools"]],
        "TaskModel": [one["taskModel"] for one in pools["taskModels"]],
    }
    for kind, bodies in kinds.items():
        for number, body in enumerate(bodies):
            metadata = {"name": f"{kind.lower()}-{number}-{namespace}"[:50].rstrip("-")}
            if KINDS[kind].namespaced:
                metadata["namespace"] = namespace
            yield {"apiVersion": KINDS[kind].api_version, "kind": kind, "metadata": metadata, "spec": body["spec"]}


def unchanged(api_server: ApiServer, manifests: list[Object], before: dict[str, Object]) -> None:
    """Nobody has touched the objects, and applying their manifests once more is accepted and changes nothing."""
    for manifest in manifests:
        name = manifest["metadata"]["name"]
        applied = api_server.api.apply(manifest)
        for field in ("uid", "generation"):
            assert applied["metadata"][field] == before[name]["metadata"][field], f"{manifest['kind']} {name}"
