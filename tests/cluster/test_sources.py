"""Artifacts from every kind of source beside one another: a registry, a bucket, a hub, a claim; and credentials that are put right while pods run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.api import DEPLOYMENT, REVISION
from tests.cluster.fleet import Fleet
from tests.cluster.load import constant_load
from tests.cluster.local.cluster import Cluster
from tests.cluster.oracles import identities, minimal, ready, refused_clearly
from tests.cluster.outside_stores import Stores, entries, give_credentials, offered_claim, outside_stores
from tests.cluster.story import tell
from tests.sources.hub_server import TOKEN
from tests.sources.s3_server import SECRET_KEY

# a changed Secret is picked up within 120 s; and a little for a busy machine.
PICKED_UP_SECONDS = 150


@pytest.fixture(scope="module")
def stores(cluster: Cluster, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with outside_stores(cluster, fleet.api, tmp_path_factory.mktemp("stores") / "s3") as found:
        yield found


def test_every_source_serves_beside_the_others_and_credentials_are_put_right_without_a_restart(
    cluster: Cluster, fleet: Fleet, stores: Stores, tmp_path: Path
) -> None:
    with fleet.tenant("sources") as tenant:
        api, namespace = fleet.api, tenant.namespace
        give_credentials(api, namespace, entries(s3_secret="not-the-secret"))
        from_claim = offered_claim(cluster, namespace, tmp_path / "claim", name="total", version="v1")
        found = {
            "claim": from_claim,
            "registry": fleet.artifact("sources"),
            "hub": stores.in_hub("total"),
            "bucket": stores.in_bucket("total", "v1"),
        }
        tenant.apply("claim", found["claim"])
        tenant.apply("registry", found["registry"])
        tenant.apply("hub", found["hub"], adapter={"credentialsKey": "hub"})
        tenant.apply("bucket", found["bucket"], adapter={"credentialsKey": "bucket"})
        ready(api, namespace, "claim", "registry", "hub")
        refused_clearly(api, namespace, "bucket", reason="CredentialsMissing", mentions="SignatureDoesNotMatch")
        before = identities(api, namespace)

        served = [tenant.target(name, found[name]) for name in ("claim", "registry", "hub")]
        with constant_load(fleet.gateway_url, served, rate=10) as load:
            give_credentials(api, namespace, entries())
            ready(api, namespace, "bucket", within=PICKED_UP_SECONDS)
        load.assert_no_error()
        minimal(before, identities(api, namespace))

        for name, artifact in found.items():
            assert artifact.mark in tenant.chat(name).text, name
        recorded = {one["spec"]["taskModelName"]: one["status"] for one in api.list(REVISION, namespace)}
        assert all(recorded[name]["digest"].startswith("sha256:") for name in found)
        assert recorded["hub"]["resolvedVersion"] == stores.hub.repository("acme/total").refs["main"], "the branch's commit"
        (deployment,) = api.list(DEPLOYMENT, namespace)
        assert "not-the-secret" not in str(deployment)
        told = tell(api, namespace)
        assert SECRET_KEY not in told
        assert TOKEN not in told


def test_a_base_comes_from_a_bucket(fleet: Fleet, stores: Stores) -> None:
    with fleet.tenant("base") as tenant:
        give_credentials(fleet.api, tenant.namespace, entries())
        adapter = stores.in_hub("amount")
        tenant.apply("amount", adapter, base=stores.base_in_bucket("v1"), adapter={"credentialsKey": "hub"})
        ready(fleet.api, tenant.namespace)
        assert adapter.mark in tenant.chat("amount").text
