"""The cluster of the tests (`tests/lanes.py` says which; started when it isn't up), and the product installed on it once."""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.cluster.api import DEPLOYMENT, Api, eventually
from tests.cluster.fleet import SYSTEM, Fleet
from tests.cluster.installation import installed
from tests.cluster.local.backends import provide
from tests.cluster.local.cluster import Cluster
from tests.cluster.local.progress import Progress
from tests.cluster.oracles import health, healthy
from tests.cluster.story import tell
from tests.lanes import cluster_of_lane


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """A running cluster. It is left running: whoever starts the tests ends it, and a second run starts faster."""
    return provide(cluster_of_lane(), Progress())


@pytest.fixture(scope="session")
def fleet(cluster: Cluster) -> Iterator[Fleet]:
    with installed(cluster) as fleet:
        yield fleet


@pytest.fixture(scope="module", autouse=True)
def operator_and_gateways_stay_healthy(request: pytest.FixtureRequest) -> Iterator[None]:
    """O9 of each module that uses the product. A module whose tests kill them, or give them reason to end themselves, says `ENDS_PROCESSES = True`."""
    if not any("fleet" in getattr(item, "fixturenames", ()) for item in request.session.items if item.path == request.path):
        yield
        return
    api: Api = request.getfixturevalue("fleet").api
    # The module before may have ended them.
    eventually(partial(_all_ready, api), what="operator and gateways are Ready", within=300, describe=partial(tell, api, SYSTEM))
    since = health(api, SYSTEM)
    yield
    healthy(api, SYSTEM, since=since, may_restart=getattr(request.module, "ENDS_PROCESSES", False))


def _all_ready(api: Api) -> bool:
    return all(one["status"].get("readyReplicas") == one["spec"]["replicas"] for one in api.list(DEPLOYMENT, SYSTEM))
