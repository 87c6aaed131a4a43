"""The cluster of the tests (the instance named by TASKFLEET_TEST_CLUSTER, `test` by default, started when it isn't up), and the product installed on it once."""

import os
from collections.abc import Iterator

import pytest

from tests.cluster.fleet import Fleet
from tests.cluster.installation import installed
from tests.cluster.local.backends import provide
from tests.cluster.local.cluster import Cluster
from tests.cluster.local.progress import Progress


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """A running cluster. It is left running: whoever starts the tests ends it, and a second run starts faster."""
    name = os.environ.get("TASKFLEET_TEST_CLUSTER") or "test"
    return provide(name, Progress())


@pytest.fixture(scope="session")
def fleet(cluster: Cluster) -> Iterator[Fleet]:
    with installed(cluster) as fleet:
        yield fleet
