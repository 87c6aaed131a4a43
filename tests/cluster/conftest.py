"""The cluster of the tests: the instance named by TASKFLEET_TEST_CLUSTER (default `test`), started when it isn't up."""

import os

import pytest

from tests.cluster.installation import fleet
from tests.cluster.local.backends import provide
from tests.cluster.local.cluster import Cluster
from tests.cluster.local.progress import Progress

__all__ = ["cluster", "fleet"]


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """A running cluster. It is left running: whoever starts the tests ends it, and a second run starts faster."""
    name = os.environ.get("TASKFLEET_TEST_CLUSTER") or "test"
    return provide(name, Progress())
