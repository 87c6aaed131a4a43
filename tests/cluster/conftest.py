"""The cluster of the tests (the instance named by TASKFLEET_TEST_CLUSTER, `test` by default, started when it isn't up), and the product installed on it once."""

import os
from collections.abc import Iterator

import pytest
import yaml

from taskfleet.artifacts.push import push
from tests.cluster import adapters
from tests.cluster.api import NODE, Api
from tests.cluster.fleet import MANIFESTS, Artifact, Fleet, Registries
from tests.cluster.installation import install
from tests.cluster.local.backends import provide
from tests.cluster.local.cluster import Cluster
from tests.cluster.local.progress import Progress

BASE = "tiny-invoices"


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """A running cluster. It is left running: whoever starts the tests ends it, and a second run starts faster."""
    name = os.environ.get("TASKFLEET_TEST_CLUSTER") or "test"
    return provide(name, Progress())


@pytest.fixture(scope="session")
def fleet(cluster: Cluster) -> Iterator[Fleet]:
    """The product on the test cluster, from this checkout, with the simulator as a class."""
    cluster.provide_images("product", "simulator")
    api = Api(cluster.kubeconfig)
    assert api.get(NODE, cluster.node_name)
    install(cluster)
    registries = Registries(cluster.registry_on_host, cluster.registry_in_pods)
    digest = push(adapters.BASE, f"{registries.on_host}/{BASE}:v1", insecure=True)
    fleet = Fleet(api, registries, Artifact(f"oci://{registries.in_pods}/{BASE}", "v1", digest))
    api.apply(yaml.safe_load((MANIFESTS / "serving-class-simulator.yaml").read_text()))
    yield fleet
    api.close()
