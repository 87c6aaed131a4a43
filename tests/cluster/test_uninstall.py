"""Without the operator: everything goes on serving, nothing is stuck, and what is deleted meanwhile goes entirely."""

from tests.cluster.api import DEPLOYMENT, NAMESPACE, TASK_MODEL, eventually
from tests.cluster.fleet import SYSTEM, Fleet
from tests.cluster.installation import install, uninstall
from tests.cluster.local.cluster import Cluster
from tests.cluster.oracles import foreign, identities, minimal, no_orphan, ready
from tests.cluster.story import tell


def test_pods_survive_an_uninstall_and_serve_again_after_a_new_install(fleet: Fleet, cluster: Cluster) -> None:
    with fleet.tenant("stays") as stays, fleet.tenant("leaves") as leaves:
        artifact = fleet.artifact("uninstall")
        others = foreign(fleet.api, leaves.namespace)
        for tenant in (stays, leaves):
            tenant.apply("vendor", artifact)
        for tenant in (stays, leaves):
            ready(fleet.api, tenant.namespace)
        before = identities(fleet.api, stays.namespace)

        uninstall(cluster)
        try:
            eventually(
                lambda: not fleet.api.list(DEPLOYMENT, SYSTEM),
                what="operator and gateway are gone",
                describe=lambda: tell(fleet.api, SYSTEM),
            )
            minimal(before, identities(fleet.api, stays.namespace))
            # No operator is there to help: owner references alone take everything along.
            leaves.remove("vendor")
            no_orphan(fleet.api, leaves.namespace, others=others)
            fleet.api.delete(NAMESPACE, leaves.namespace)
            eventually(lambda: fleet.api.find(NAMESPACE, leaves.namespace) is None, what="the namespace is gone", within=90)
            assert fleet.api.list(TASK_MODEL, stays.namespace)
        finally:
            install(cluster)

        ready(fleet.api, stays.namespace)
        assert artifact.mark in eventually(lambda: stays.chat("vendor").text, what="an answer after the new install")
        minimal(before, identities(fleet.api, stays.namespace))
