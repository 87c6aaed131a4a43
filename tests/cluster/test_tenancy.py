"""What a tenant cannot reach: pod templates, images, other namespaces, other pools, engines, the agents' administration, secrets."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
import urllib3

from taskfleet import names
from taskfleet.api import agent
from tests.cluster.api import CHILDREN, CLUSTER_ROLE, DEPLOYMENT, POD, POOL, ROLE, SECRET, Api, ApiError, Object, eventually
from tests.cluster.fleet import PROMPT, SYSTEM, USER, Fleet, Tenant
from tests.cluster.local.cluster import Cluster
from tests.cluster.oracles import ready
from tests.cluster.sockets import Listener, listeners, parse
from tests.cluster.story import tell

OPERATOR = "taskfleet-operator"
GATEWAY = "taskfleet-gateway"
MARKER = "tenants-own-words"


@dataclass(frozen=True, slots=True)
class Door:
    """A pool's pod as somebody on the network sees it."""

    tenant: Tenant
    pod: Object
    pool: Object
    engine_name: str

    def ask(self, method: str, path: str, *, token: str = "", body: object = None) -> int:
        """The status of a request to the pod's one open port."""
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        url = f"http://{self.pod['status']['podIP']}:{names.AGENT_PORT}{path}"
        content = None if body is None else json.dumps(body).encode()
        return urllib3.PoolManager(retries=False, timeout=10).request(method, url, headers=headers, body=content).status

    def chat(self, token: str) -> int:
        body = {"model": self.engine_name, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 4}
        return self.ask("POST", "/v1/chat/completions", token=token, body=body)


@pytest.fixture(scope="module")
def doors(fleet: Fleet) -> Iterator[tuple[Door, Door]]:
    """Pods of two teams' pools."""
    with fleet.tenant("one") as one, fleet.tenant("two") as two:
        for tenant in (one, two):
            tenant.apply("vendor", fleet.artifact("tenancy"))
        yield _door(fleet, one), _door(fleet, two)


def _door(fleet: Fleet, tenant: Tenant) -> Door:
    ready(fleet.api, tenant.namespace)
    (pod,) = fleet.api.list(POD, tenant.namespace)
    (pool,) = fleet.api.list(POOL, tenant.namespace)
    return Door(tenant, pod, pool, names.engine_name(tenant.namespace, "vendor", fleet.artifact("tenancy").digest))


def token_for(api: Api, account: str, door: Door) -> str:
    return api.token(account, SYSTEM, audiences=[door.pool["metadata"]["uid"]], seconds=600)


def test_gateways_token_opens_inference_of_its_pool_only(fleet: Fleet, doors: tuple[Door, Door]) -> None:
    door, other = doors
    assert door.chat(token_for(fleet.api, GATEWAY, door)) == 200
    assert door.chat(token_for(fleet.api, GATEWAY, other)) == 401, "a token captured in another pool"
    assert door.chat(token_for(fleet.api, OPERATOR, door)) in {401, 403}
    assert door.chat(fleet.api.token(GATEWAY, SYSTEM)) == 401, "a token for the API server"
    assert door.chat(door.tenant.token) == 401, "a client's own token"
    assert door.chat("") == 401


ADMINISTRATION: list[tuple[str, str, object]] = [
    ("GET", agent.STATE_PATH, None),
    ("PUT", agent.DESIRED_PATH, {}),
    ("POST", agent.RESOLVE_PATH, {}),
]


@pytest.mark.parametrize(("method", "path", "body"), ADMINISTRATION, ids=["state", "desired", "resolve"])
def test_administration_is_the_operators_alone(fleet: Fleet, doors: tuple[Door, Door], method: str, path: str, body: object) -> None:
    door, other = doors
    strangers = {
        "nobody": "",
        "the gateway": token_for(fleet.api, GATEWAY, door),
        "the operator's token for another pool": token_for(fleet.api, OPERATOR, other),
        "the operator's token for the API server": fleet.api.token(OPERATOR, SYSTEM),
        "a tenant's account with the pool's audience": fleet.api.token(
            USER, door.tenant.namespace, audiences=[door.pool["metadata"]["uid"]], seconds=600
        ),
    }
    for who, token in strangers.items():
        assert door.ask(method, path, token=token, body=body) in {401, 403}, who
    assert door.ask(method, path, token=token_for(fleet.api, OPERATOR, door), body=body) not in {401, 403, 404}


def token_of_pods(api: Api, door: Door, audience: Door | None = None) -> str:
    """What the kubelet mounts into the pool's pods, or the same account's for another pool."""
    uid = (audience or door).pool["metadata"]["uid"]
    return api.token(door.pool["metadata"]["name"], door.tenant.namespace, audiences=[uid], seconds=600)


@pytest.mark.parametrize("template", [agent.MANIFEST_PATH, agent.FILE_PATH], ids=["manifest", "file"])
def test_copies_are_for_the_pools_own_pods(fleet: Fleet, doors: tuple[Door, Door], template: str) -> None:
    door, other = doors
    path = template.format(shelf="adapters", digest=fleet.artifact("tenancy").digest, file="adapter_config.json")
    strangers = {
        "nobody": "",
        "the gateway": token_for(fleet.api, GATEWAY, door),
        "the operator": token_for(fleet.api, OPERATOR, door),
        "a token captured in another pool": token_of_pods(fleet.api, other),
        "another pool's account with this pool's audience": token_of_pods(fleet.api, other, door),
        "this pool's account with another pool's audience": token_of_pods(fleet.api, door, other),
        "this pool's account with a token for the API server": fleet.api.token(door.pool["metadata"]["name"], door.tenant.namespace),
        "a tenant's account with the pool's audience": fleet.api.token(
            USER, door.tenant.namespace, audiences=[door.pool["metadata"]["uid"]], seconds=600
        ),
    }
    for who, token in strangers.items():
        assert door.ask("GET", path, token=token) in {401, 403}, who
    assert door.ask("GET", path, token=token_of_pods(fleet.api, door)) == 200


def test_token_of_pods_is_good_for_copies_alone(fleet: Fleet, doors: tuple[Door, Door]) -> None:
    door, _ = doors
    token = token_of_pods(fleet.api, door)
    assert door.chat(token) == 403
    for method, path, body in ADMINISTRATION:
        assert door.ask(method, path, token=token, body=body) == 403, path
    with pytest.raises(ApiError) as refused:
        fleet.api.request("GET", POD.path(door.tenant.namespace), token=token)
    assert refused.value.status == 401, "the API server refuses it"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/adapters",
        "/v1/models",
        "/sleep",
        "/tokenize",
        "/v1/../v1/load_lora_adapter",
        "/engine/v1/load_lora_adapter",
    ],
)
def test_engines_other_routes_are_closed_to_everybody(fleet: Fleet, doors: tuple[Door, Door], path: str) -> None:
    door, _ = doors
    for account in (GATEWAY, OPERATOR):
        body = {"lora_name": "x", "lora_path": "/store"}
        assert door.ask("POST", path, token=token_for(fleet.api, account, door), body=body) in {401, 403, 404, 405}
    assert door.chat(token_for(fleet.api, GATEWAY, door)) == 200


def test_unproven_model_is_not_here(fleet: Fleet, doors: tuple[Door, Door]) -> None:
    door, _ = doors
    stranger = Door(door.tenant, door.pod, door.pool, "another.task.0123456789abcdef0123456789abcdef")
    assert stranger.chat(token_for(fleet.api, GATEWAY, door)) == agent.NOT_HERE_STATUS
    base = Door(door.tenant, door.pod, door.pool, door.pool["metadata"]["name"])
    assert base.chat(token_for(fleet.api, GATEWAY, door)) == agent.NOT_HERE_STATUS, "no task of this pool is served by the bare base"


def test_nothing_but_the_agent_listens_on_the_pod_address(cluster: Cluster, doors: tuple[Door, Door]) -> None:
    door, _ = doors
    found = listeners(cluster, door.pod["metadata"]["name"], door.tenant.namespace, "engine")
    assert {one.port for one in found if one.reachable_from_outside} == {names.AGENT_PORT}
    assert names.ENGINE_PORT in {one.port for one in found}, "the engine was not seen: the check is blind"


def test_listeners_are_read_right() -> None:
    table = (
        "  sl  local_address rem_address   st\n"
        "   0: 0100007F:1F40 00000000:0000 0A\n   1: 00000000:1F90 00000000:0000 0A\n   2: 0100007F:1F40 0100007F:D431 01\n"
        "   0: 00000000000000000000000001000000:2710 00000000000000000000000000000000:0000 0A\n"
        "   1: 0000000000000000FFFF00000100D30A:2711 00000000000000000000000000000000:0000 0A\n"
    )
    assert parse(table) == [
        Listener(IPv4Address("127.0.0.1"), 8000),
        Listener(IPv4Address("0.0.0.0"), 8080),
        Listener(IPv6Address("::1"), 10000),
        Listener(IPv6Address("::ffff:10.211.0.1"), 10001),
    ]
    assert [one.reachable_from_outside for one in parse(table)] == [False, True, False, True]


def test_task_model_has_no_way_to_the_pod_template(fleet: Fleet, doors: tuple[Door, Door]) -> None:
    """Two tasks as different as tenants can make them give the same template, and no word of theirs is in it."""
    door, _ = doors
    with fleet.tenant("words") as tenant:
        tenant.apply(
            "vendor",
            fleet.artifact("tenancy"),
            task={
                "description": MARKER,
                "systemPrompt": f"{MARKER} $(ENV) `sh` {{{{x}}}}",
                "outputSchema": json.dumps({"type": "object", "title": MARKER}),
                "defaults": {"stop": [MARKER], "maxTokens": 7},
            },
        )
        ready(fleet.api, tenant.namespace)
        templates = [_template(fleet.api, namespace) for namespace in (door.tenant.namespace, tenant.namespace)]
        assert MARKER not in templates[1]
        assert templates[0] == templates[1]


def _template(api: Api, namespace: str) -> str:
    (deployment,) = api.list(DEPLOYMENT, namespace)
    (pool,) = api.list(POOL, namespace)
    text = json.dumps(deployment["spec"]["template"], sort_keys=True)
    return text.replace(pool["metadata"]["uid"], "UID").replace(pool["metadata"]["name"], "POOL").replace(namespace, "NAMESPACE")


@pytest.mark.parametrize("field", ["podTemplate", "engine", "image", "resources", "volumes", "serviceAccountName", "nodeSelector", "env"])
def test_fields_of_pods_are_refused_in_a_task_model(doors: tuple[Door, Door], field: str) -> None:
    wishes: dict[str, Any] = {field: {"name": "x"}}
    with pytest.raises(ApiError, match=field):
        doors[0].tenant.apply("wishes", None, **wishes)


def test_images_come_from_the_class_and_the_operator_only(fleet: Fleet, doors: tuple[Door, Door]) -> None:
    (operator, *_) = fleet.api.list(POD, SYSTEM, labels="app.kubernetes.io/component=operator")
    own = operator["spec"]["containers"][0]["image"]
    for door in doors:
        images = {one["image"] for one in [*door.pod["spec"]["initContainers"], *door.pod["spec"]["containers"]]}
        assert images == {own, "taskfleet.local/engine-simulator:dev"}


@pytest.mark.parametrize(
    "spec",
    [
        {"evaluation": {"dataset": {"configMapName": "other/golden"}}},
        {"adapter": {"credentialsKey": "../other/registry"}},
        {"servingClassName": "other/simulator"},
        {"base": {"source": "pvc://other/../claim"}},
        {"adapter": {"source": "oci://user:password@registry.example/x"}},
    ],
    ids=["dataset", "credentials", "class", "claim", "password"],
)
def test_references_cannot_leave_the_namespace(fleet: Fleet, doors: tuple[Door, Door], spec: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as refused:
        doors[0].tenant.apply("reaching", fleet.artifact("tenancy"), **spec)
    assert refused.value.status == 422


def test_children_name_nothing_of_other_namespaces(fleet: Fleet, doors: tuple[Door, Door]) -> None:
    for door, other in (doors, doors[::-1]):
        own, foreign = door.tenant.namespace, other.tenant.namespace
        for kind in CHILDREN:
            for child in fleet.api.list(kind, own, labels=f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"):
                assert foreign not in json.dumps(child), f"{kind.kind} of {own}"


def test_pods_of_pools_have_no_token_for_the_api_server(doors: tuple[Door, Door]) -> None:
    for door in doors:
        assert door.pod["spec"]["automountServiceAccountToken"] is False
        projected = [source for volume in door.pod["spec"]["volumes"] for source in volume.get("projected", {}).get("sources", [])]
        audiences = [source["serviceAccountToken"]["audience"] for source in projected if "serviceAccountToken" in source]
        assert audiences == [door.pool["metadata"]["uid"]]
        containers = [*door.pod["spec"]["initContainers"], *door.pod["spec"]["containers"]]
        mounts = {one["name"]: {mount["name"] for mount in one["volumeMounts"]} for one in containers}
        assert {name for name, volumes in mounts.items() if "pool" in volumes} == {"agent"}


def test_all_our_pods_are_admitted_by_the_restricted_standard(fleet: Fleet, doors: tuple[Door, Door]) -> None:
    """Pool pods live in a namespace that enforces it; operator and gateway are tried there."""
    namespace = doors[0].tenant.namespace
    for pod in fleet.api.list(POD, SYSTEM):
        metadata = {"name": f"trial-{pod['metadata']['name']}"[:63], "namespace": namespace}
        spec = {name: value for name, value in pod["spec"].items() if name not in {"nodeName", "serviceAccount", "serviceAccountName"}}
        spec["volumes"] = [volume for volume in spec.get("volumes", []) if not volume["name"].startswith("kube-api-access")]
        for container in spec["containers"]:
            container["volumeMounts"] = [one for one in container.get("volumeMounts", []) if not one["name"].startswith("kube-api-access")]
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        fleet.api.request("POST", POD.path(namespace), body=body, query={"dryRun": "All"})
    bad = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bad", "namespace": namespace},
        "spec": {"containers": [{"name": "x", "image": "x"}]},
    }
    with pytest.raises(ApiError, match="restricted"):
        fleet.api.request("POST", POD.path(namespace), body=bad, query={"dryRun": "All"})


def test_rights_are_listed_one_by_one(fleet: Fleet) -> None:
    roles = [role for kind in (CLUSTER_ROLE, ROLE) for role in fleet.api.list(kind, labels="app.kubernetes.io/name=taskfleet")]
    assert len(roles) >= 3, [role["metadata"]["name"] for role in roles]
    for role in roles:
        for rule in role["rules"] or []:
            named = json.dumps(rule)
            assert "*" not in named, f"{role['metadata']['name']}: {named}"
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"]), f"{role['metadata']['name']}: {named}"
            assert not {"pods/exec", "pods/attach", "pods/portforward"} & set(rule.get("resources", [])), named
            if "secrets" in rule.get("resources", []):
                assert role["kind"] == ROLE.kind, f"in its own namespace only: {named}"
                assert (rule["resourceNames"], set(rule["verbs"])) == ([names.FEEDBACK_SECRET], {"get", "patch"}), named


@pytest.mark.parametrize("account", [OPERATOR, GATEWAY])
def test_operator_and_gateway_may_not_read_secrets_or_enter_pods(fleet: Fleet, doors: tuple[Door, Door], account: str) -> None:
    token = fleet.api.token(account, SYSTEM)
    for namespace in ("", SYSTEM, doors[0].tenant.namespace):
        for verb in ("get", "list", "watch"):
            assert not fleet.api.may(token, verb=verb, resource=SECRET.plural, namespace=namespace)
        assert not fleet.api.may(token, verb="create", resource="pods", subresource="exec", namespace=namespace)
    assert fleet.api.may(token, verb="list", resource="taskmodels", group=names.GROUP), "the check is blind"


def test_credentials_show_nowhere(fleet: Fleet, doors: tuple[Door, Door]) -> None:
    """A credential entry is for the agent's eyes: not in objects, events or logs."""
    door, _ = doors
    secret = "hunter2-very-secret"
    registry = {"auths": {"registry.example": {"username": "robot", "password": secret}}}
    fleet.api.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": names.CREDENTIALS_SECRET, "namespace": door.tenant.namespace},
            "stringData": {"registry": json.dumps(registry)},
        }
    )
    door.tenant.apply("secretive", fleet.artifact("tenancy"), adapter={"credentialsKey": "registry"})
    eventually(lambda: door.tenant.get("secretive").get("status", {}).get("conditions"), what="the task was looked at")
    told = tell(fleet.api, door.tenant.namespace, SYSTEM)
    assert secret not in told
    assert secret not in json.dumps([fleet.api.list(kind, door.tenant.namespace) for kind in (POOL, POD, *CHILDREN)])
    door.tenant.remove("secretive")
