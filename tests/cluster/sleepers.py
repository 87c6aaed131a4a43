"""A pool that follows demand down to zero, as its tests look at it."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

from taskfleet.names import LABEL_POOL
from tests.cluster.api import POD, POOL, Object, eventually, is_true
from tests.cluster.fleet import Artifact, Tenant
from tests.cluster.local.cluster import Cluster
from tests.cluster.sickness import slow_everywhere
from tests.cluster.story import tell

RARE, SELDOM = "rare", "seldom"
# How long an answer takes where it is to take long: enough for a few requests a second to be many at once.
SLOW_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepyPool:
    """The one pool of a namespace with this isolation."""

    tenant: Tenant
    isolation: str = "Shared"

    def pool(self) -> Object:
        (pool,) = [one for one in self.tenant.fleet.api.list(POOL, self.tenant.namespace) if one["spec"]["isolation"] == self.isolation]
        return pool

    def pods(self) -> list[Object]:
        """Those that nobody is ending."""
        found = self.tenant.fleet.api.list(POD, self.tenant.namespace, labels=f"{LABEL_POOL}={self.pool()['metadata']['name']}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def scaling(self) -> Object:
        """What the pool says of its size."""
        told: Object = self.pool()["status"].get("scaling", {})
        return told

    def has(self, replicas: int, *, within: float = 180) -> Object:
        """Waits until the pool has so many pods, wanted and there."""

        def check() -> Object:
            pool = self.pool()
            assert pool["spec"]["replicas"] == replicas, pool["status"].get("scaling")
            assert len(self.pods()) == replicas
            return pool

        return eventually(check, what=f"{replicas} pods", within=within, describe=self.story)

    def has_ready(self, replicas: int, *, within: float = 120) -> list[Object]:
        """Waits until it has exactly so many pods, all of them Ready."""

        def check() -> list[Object]:
            found = self.pods()
            assert len(found) == replicas, [pod["metadata"]["name"] for pod in found]
            assert all(is_true(pod, "Ready") for pod in found), "not all are Ready"
            assert self.pool()["spec"]["replicas"] == replicas
            return found

        return eventually(check, what=f"{replicas} Ready pods", within=within, describe=self.story)

    def sleeps(self) -> Object:
        return self.has(0)

    def story(self) -> str:
        return tell(self.tenant.fleet.api, self.tenant.namespace)


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepyTeam(SleepyPool):
    """Two tasks, RARE and SELDOM, on one pool that may sleep."""

    cluster: Cluster
    rare: Artifact
    seldom: Artifact

    def wakes(self) -> None:
        """By a request, until a pod is Ready."""
        assert self.tenant.chat(RARE).status == 200
        eventually(lambda: self.pool()["status"]["readyReplicas"] >= 1, what="a pod is Ready", within=120, describe=self.story)

    def slow(self, task: str, artifact: Artifact) -> AbstractContextManager[None]:
        """While the block runs, a burst for this task is many requests at once, on pods that come as well."""
        return slow_everywhere(self.cluster, self.tenant, task, artifact, delay_seconds=SLOW_SECONDS)
