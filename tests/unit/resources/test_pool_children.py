"""The children of a pool: everything that the class says is in them, and nothing else moves the pod template."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskfleet import names
from taskfleet.api.agent import DesiredState, Trust
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.servingclass import RESERVED_VOLUMES
from taskfleet.planning import servingclass
from taskfleet.planning.claims import volume_of
from tests.unit.planning.builders import digest, key_for, member_of, pool_of, revision_of, serving_class, task_model
from tests.unit.resources.pools import SETTINGS, TRUST, children_of, maximal, the_pool

GOLDEN = Path(__file__).parent / "golden" / "maximal.yaml"


def pod_spec(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = children_of(serving_class(**spec)).deployment["spec"]["template"]["spec"]
    return found


def container(spec: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in [*spec["initContainers"], *spec["containers"]] if one["name"] == name)
    return found


def engine_with(**fields: Any) -> dict[str, Any]:
    return {"engine": {"type": "vLLM", "image": "registry.example/vllm:1", **fields}}


def from_claims(*claims: str) -> ModelPool:
    """A pool with one member for each claim."""
    tasks = [
        task_model(f"task-{place}", version=None, adapter={"source": f"pvc://{claim}/folder", "version": "v1"})
        for place, claim in enumerate(claims)
    ]
    return pool_of(*(member_of(revision_of(task)) for task in tasks), key=key_for(task_model()))


def variables(of: dict[str, Any]) -> dict[str, str | None]:
    return {one["name"]: one.get("value") for one in of["env"]}


def test_maximal_class_gives_the_reviewed_children() -> None:
    """UPDATE_GOLDEN=1 writes them anew; the difference is for a reviewer to read."""
    text = yaml.safe_dump_all(list(children_of(maximal())), sort_keys=False, width=140)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert GOLDEN.read_text() == text


def test_maximal_class_is_a_usable_one() -> None:
    assert servingclass.violation(maximal().spec) is None


class TestPodTemplate:
    def test_is_the_same_byte_by_byte_for_the_same_class(self) -> None:
        first, second = (json.dumps(children_of(maximal()).deployment) for _ in range(2))
        assert first == second

    def test_is_not_moved_by_members_digests_replicas_or_keys(self) -> None:
        template = children_of(maximal()).deployment["spec"]["template"]
        empty = pool_of(key=key_for(task_model()), generation=99, replicas=5)
        other_trust = Trust.model_validate({**TRUST.to_json(), "jwks": {"keys": []}})
        moved = children_of(maximal(), empty, trust=other_trust)
        assert moved.deployment["spec"]["template"] == template
        assert moved.deployment["spec"]["replicas"] == 5
        assert moved.config_map["data"] != children_of(maximal()).config_map["data"]

    def test_claims_of_artifacts_are_mounted_by_the_agent_alone_and_nobody_writes_to_them(self) -> None:
        spec = children_of(serving_class(), from_claims("models", "other.models")).deployment["spec"]["template"]["spec"]
        volumes = {one["name"]: one["persistentVolumeClaim"] for one in spec["volumes"] if "persistentVolumeClaim" in one}
        assert volumes == {volume_of(name): {"claimName": name, "readOnly": True} for name in ("models", "other.models")}
        mounts = [one for one in container(spec, "agent")["volumeMounts"] if one["name"] in volumes]
        assert [(one["mountPath"], one["readOnly"]) for one in mounts] == [("/claims/models", True), ("/claims/other.models", True)]
        for name in ("base", "engine"):
            assert not [one for one in container(spec, name)["volumeMounts"] if one["name"] in volumes]

    def test_is_moved_by_another_claim_and_not_by_another_member_of_the_same(self) -> None:
        def template(*claims: str) -> Any:
            return children_of(serving_class(), from_claims(*claims)).deployment["spec"]["template"]

        assert template("models") == template("models", "models")
        assert template("models", "others") == template("others", "models")
        assert template("models") != template("models", "others")
        assert template() == children_of(serving_class()).deployment["spec"]["template"]

    def test_base_from_a_registry_may_be_an_image_volume_that_agent_and_engine_read(self) -> None:
        spec = pod_spec(store={"ociBases": "ImageVolume"})
        (volume,) = [one for one in spec["volumes"] if "image" in one]
        assert volume == {
            "name": "base-image",
            "image": {"reference": "registry.example/tiny-invoices:v1", "pullPolicy": "IfNotPresent"},
        }
        for name in ("agent", "engine"):
            assert {"name": "base-image", "mountPath": "/run/base-image", "readOnly": True} in container(spec, name)["volumeMounts"]
        assert variables(container(spec, "agent"))["TASKFLEET_BASE_IMAGE"] == "/run/base-image"
        assert "--model=/run/base-image" in container(spec, "engine")["args"]
        # It waits for the agent's word as with any base: what is mounted has to be verified first.
        assert [one["name"] for one in spec["initContainers"]] == ["agent", "base"]

    def test_base_from_elsewhere_is_never_an_image_volume(self) -> None:
        base = {"source": "pvc://models/tiny", "revision": "v1"}
        the_class = serving_class(store={"ociBases": "ImageVolume"})
        pool = pool_of(key=key_for(task_model(base=base)))
        spec = children_of(the_class, pool).deployment["spec"]["template"]["spec"]
        assert not [one for one in spec["volumes"] if "image" in one]
        assert "--model=/store/base/current" in container(spec, "engine")["args"]

    @pytest.mark.parametrize(
        "same",
        [
            {"pricePerHour": "1.20"},
            {"allowedNamespaces": {"names": ["a"]}},
            {"scaling": {"idleSeconds": 60}},
            {"adapters": {"maxSize": "1Gi"}},
        ],
    )
    def test_is_not_moved_by_what_pods_need_not_know(self, same: dict[str, Any]) -> None:
        assert pod_spec(**same) == pod_spec()

    def test_agent_starts_first_and_stays_beside_the_engine(self) -> None:
        spec = pod_spec()
        assert [(one["name"], one.get("restartPolicy")) for one in spec["initContainers"]] == [("agent", "Always"), ("base", None)]
        assert [one["name"] for one in spec["containers"]] == ["engine"]

    def test_pod_has_no_right_and_no_token_but_the_agents_for_its_own_pool(self) -> None:
        spec = pod_spec()
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        tokens = {
            volume["name"]: source["serviceAccountToken"]
            for volume in spec["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
            if "serviceAccountToken" in source
        }
        assert tokens == {"pool": {"path": "peer-token", "audience": the_pool().metadata.uid, "expirationSeconds": 600}}
        mounted = {
            one["name"]
            for one in [*spec["initContainers"], *spec["containers"]]
            for mount in one["volumeMounts"]
            if mount["name"] == "pool"
        }
        assert mounted == {"agent"}

    @pytest.mark.parametrize("name", ["agent", "base", "engine"])
    def test_every_container_is_restricted(self, name: str) -> None:
        spec = pod_spec()
        assert container(spec, name)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}

    def test_engine_reads_the_store_and_the_agent_writes_it(self) -> None:
        spec = pod_spec()
        mounts = {
            name: {one["name"]: one.get("readOnly", False) for one in container(spec, name)["volumeMounts"]} for name in ("agent", "engine")
        }
        assert (mounts["agent"]["store"], mounts["engine"]["store"]) == (False, True)
        assert "credentials" not in mounts["engine"]
        assert "pool" not in mounts["engine"]

    def test_volumes_of_its_own_are_those_that_classes_may_not_name(self) -> None:
        assert {volume["name"] for volume in pod_spec()["volumes"]} == set(RESERVED_VOLUMES)

    def test_only_the_agent_has_a_port(self) -> None:
        spec = pod_spec()
        assert container(spec, "agent")["ports"] == [{"name": "agent", "containerPort": 8080, "protocol": "TCP"}]
        assert "ports" not in container(spec, "engine")
        assert "--host=127.0.0.1" in container(spec, "engine")["args"]

    def test_engine_is_probed_through_the_agent_for_as_long_as_a_start_may_take(self) -> None:
        probe = container(pod_spec(**engine_with(startupSeconds=601)), "engine")["startupProbe"]
        assert probe["httpGet"] == {"path": "/engine/health", "port": 8080, "scheme": "HTTP"}
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 601

    def test_engine_is_stopped_when_the_agent_has_drained_and_the_kubelet_waits_for_it(self) -> None:
        spec = pod_spec(**engine_with(drainSeconds=45))
        (_, _, script) = container(spec, "engine")["lifecycle"]["preStop"]["exec"]["command"]
        assert script == "touch /run/taskfleet/drain; until [ -e /run/taskfleet/drained ]; do sleep 0.2; done"
        assert spec["terminationGracePeriodSeconds"] > 45
        assert variables(container(spec, "agent"))["TASKFLEET_DRAIN_SECONDS"] == "45"

    def test_limits_of_adapters_reach_the_engine(self) -> None:
        limits = {"maxPerPool": 40, "candidateSlots": 4, "maxActive": 6, "maxRank": 32}
        arguments = container(pod_spec(adapters=limits), "engine")["args"]
        assert {"--enable-lora", "--max-loras=6", "--max-cpu-loras=44", "--max-lora-rank=32"} <= set(arguments)

    def test_operators_environment_wins_and_no_name_stands_twice(self) -> None:
        found = container(
            pod_spec(**engine_with(env=[{"name": "HOME", "value": "/data"}, {"name": "VLLM_NO_USAGE_STATS", "value": "0"}])), "engine"
        )["env"]
        assert len({one["name"] for one in found}) == len(found)
        values = {one["name"]: one["value"] for one in found}
        assert (values["HOME"], values["VLLM_NO_USAGE_STATS"]) == ("/data", "1")

    @pytest.mark.parametrize("resource", ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "amd.com/gpu", "example.com/shared-gpu"])
    def test_accelerator_of_any_name_is_requested_and_limited(self, resource: str) -> None:
        resources = container(pod_spec(accelerator={"resourceName": resource, "count": 2}), "engine")["resources"]
        assert resources["requests"][resource] == resources["limits"][resource] == "2"

    def test_spread_without_selector_means_the_pools_own_pods(self) -> None:
        own, given = children_of(maximal()).deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert own["labelSelector"] == {"matchLabels": children_of(maximal()).deployment["spec"]["selector"]["matchLabels"]}
        assert given["labelSelector"] == {"matchLabels": {"team": "money"}}

    def test_what_the_class_does_not_say_is_not_claimed(self) -> None:
        spec = pod_spec()
        assert not {"nodeSelector", "tolerations", "affinity", "priorityClassName", "runtimeClassName", "schedulerName"} & set(spec)
        assert "annotations" not in children_of(serving_class()).deployment["spec"]["template"]["metadata"]

    def test_labels_of_the_class_never_replace_ours(self) -> None:
        # Refused by the check of the class; a class that was stored before the check must not break the selector.
        labels = children_of(serving_class(podMetadata={"labels": {names.LABEL_POOL: "mine"}})).deployment["spec"]["template"]["metadata"][
            "labels"
        ]
        assert labels[names.LABEL_POOL] == the_pool().metadata.name

    def test_no_empty_value_is_applied(self) -> None:
        """The API server drops them, and the live object would never equal ours."""
        assert (
            list(_empty(list(children_of(serving_class(), settings=replace(SETTINGS, insecure_registries="", allowed_networks=""))))) == []
        )


def _empty(value: Any, path: str = "") -> Any:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            # `emptyDir: {}` says which kind of volume it is, and `resources: {}` is kept as it is.
            if inner in ("", {}, []) and key not in {"emptyDir", "resources"}:
                yield f"{path}.{key}"
            yield from _empty(inner, f"{path}.{key}")


class TestOtherChildren:
    def test_all_have_the_pools_name_and_go_with_it(self) -> None:
        made = children_of(serving_class())
        for child in made:
            suffix = "-peers" if child is made.peers_service else ""
            assert child["metadata"]["name"] == the_pool().metadata.name + suffix
            (owner,) = child["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["uid"], owner["controller"]) == ("ModelPool", the_pool().metadata.uid, True)

    def test_deployment_selects_its_own_pods(self) -> None:
        spec = children_of(serving_class()).deployment["spec"]
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()

    @pytest.mark.parametrize("child", ["service", "peers_service", "pod_disruption_budget", "network_policy"])
    def test_routes_lead_to_pods_of_this_very_pool(self, child: str) -> None:
        spec = getattr(children_of(serving_class()), child)["spec"]
        selector = spec.get("podSelector", spec.get("selector"))
        labels = selector.get("matchLabels", selector)
        assert labels == {names.LABEL_POOL: the_pool().metadata.name, names.LABEL_POOL_UID: the_pool().metadata.uid}
        assert labels.items() <= children_of(serving_class()).deployment["spec"]["template"]["metadata"]["labels"].items()

    def test_service_carries_the_pool_and_its_uid_for_the_endpoint_slices(self) -> None:
        labels = children_of(serving_class()).service["metadata"]["labels"]
        assert (labels[names.LABEL_POOL], labels[names.LABEL_POOL_UID]) == (the_pool().metadata.name, the_pool().metadata.uid)

    def test_pods_find_each_other_by_name_also_while_they_are_not_ready(self) -> None:
        spec = children_of(serving_class()).peers_service["spec"]
        assert (spec["clusterIP"], spec["publishNotReadyAddresses"]) == ("None", True)

    def test_longest_pool_name_leaves_room_for_the_peers_service(self) -> None:
        assert len(names.peers_service("x" * names.POOL_NAME_LENGTH)) <= 63

    def test_config_map_holds_what_agents_read(self) -> None:
        data = children_of(serving_class()).config_map["data"]
        desired = DesiredState.model_validate_json(data["desired.json"])
        assert (desired.generation, desired.base_digest) == (7, digest("b"))
        assert Trust.model_validate_json(data["trust.json"]) == TRUST

    def test_budget_never_blocks_the_drain_of_a_node(self) -> None:
        assert children_of(serving_class(), the_pool(replicas=1)).pod_disruption_budget["spec"]["maxUnavailable"] == 1

    def test_network_lets_in_operator_gateway_and_the_pools_own_pods_alone_and_nothing_out_to_metadata(self) -> None:
        spec = children_of(serving_class()).network_policy["spec"]
        (rule,) = spec["ingress"]
        (parts, peers) = rule["from"]
        assert parts["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "taskfleet-system"}}
        assert parts["podSelector"]["matchExpressions"][0]["values"] == ["operator", "gateway"]
        own = {names.LABEL_POOL: the_pool().metadata.name, names.LABEL_POOL_UID: the_pool().metadata.uid}
        assert peers == {"podSelector": {"matchLabels": own}}, "of the same namespace: no namespaceSelector"
        assert {"to": [peers], "ports": [{"port": 8080, "protocol": "TCP"}]} in spec["egress"]
        assert rule["ports"] == [{"port": 8080, "protocol": "TCP"}]
        blocked = [one for block in spec["egress"][1]["to"] for one in block["ipBlock"]["except"]]
        assert "169.254.0.0/16" in blocked

    def test_service_account_has_no_token(self) -> None:
        assert children_of(serving_class()).service_account["automountServiceAccountToken"] is False
