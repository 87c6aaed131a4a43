"""All children of a ModelPool, as Kubernetes JSON for server-side apply."""

from collections.abc import Iterator
from dataclasses import dataclass

from taskfleet import names
from taskfleet.api.agent import DESIRED_KEY, TRUST_KEY, DesiredState, Trust
from taskfleet.api.fields import Model
from taskfleet.api.modelpool import ModelPool
from taskfleet.api.servingclass import ServingClass
from taskfleet.resources.deployment import deployment
from taskfleet.resources.metadata import Json, child_metadata, route_selector
from taskfleet.resources.networkpolicy import network_policy
from taskfleet.resources.settings import PoolSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """The children, to be applied in this order: pods need the account and the documents, and nothing may reach them before their NetworkPolicy stands."""

    service_account: Json
    config_map: Json
    network_policy: Json
    service: Json
    peers_service: Json
    pod_disruption_budget: Json
    deployment: Json

    def __iter__(self) -> Iterator[Json]:
        yield self.service_account
        yield self.config_map
        yield self.network_policy
        yield self.service
        yield self.peers_service
        yield self.pod_disruption_budget
        yield self.deployment


def children(pool: ModelPool, serving_class: ServingClass, settings: PoolSettings, *, desired: DesiredState, trust: Trust) -> Children:
    """The children of the pool. `desired` is `PoolPlan.desired`."""
    return Children(
        service_account=service_account(pool),
        config_map=config_map(pool, desired, trust),
        network_policy=network_policy(pool, settings),
        service=service(pool),
        peers_service=peers_service(pool),
        pod_disruption_budget=pod_disruption_budget(pool),
        deployment=deployment(pool, serving_class, settings),
    )


def service_account(pool: ModelPool) -> Json:
    """An identity without rights. The agent alone has a token of it, which is good for the pool's other agents and for nothing else."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": child_metadata(pool), "automountServiceAccountToken": False}


def config_map(pool: ModelPool, desired: DesiredState, trust: Trust) -> Json:
    """What a starting pod finds, also while the operator is down. Mounted without a hash in the pod template: a change rolls nothing."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": child_metadata(pool),
        "data": {DESIRED_KEY: _text(desired), TRUST_KEY: _text(trust)},
    }


def service(pool: ModelPool) -> Json:
    """Makes the EndpointSlices by which gateways find the Ready pods; its labels are copied onto them."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(pool),
        "spec": {
            "type": "ClusterIP",
            "selector": route_selector(pool),
            "ports": [
                {"name": "agent", "port": names.AGENT_PORT, "targetPort": names.AGENT_PORT, "protocol": "TCP", "appProtocol": "http"}
            ],
        },
    }


def peers_service(pool: ModelPool) -> Json:
    """Gives the pool's pods each other's addresses by DNS, to copy artifacts from one another.

    Also those that aren't Ready: a pod that drains may hold the only copy. Gateways don't take it for a route: it hasn't the pool's name.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(pool, names.peers_service(pool.metadata.name)),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": route_selector(pool),
            "ports": [
                {"name": "agent", "port": names.AGENT_PORT, "targetPort": names.AGENT_PORT, "protocol": "TCP", "appProtocol": "http"}
            ],
        },
    }


def pod_disruption_budget(pool: ModelPool) -> Json:
    """One pod at a time may be evicted, also the only one: a budget that allows none would block the drain of its node for ever."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": child_metadata(pool),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": route_selector(pool)},
            # A pod that isn't Ready serves nobody.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def _text(document: Model) -> str:
    return document.model_dump_json(by_alias=True, exclude_none=True)
