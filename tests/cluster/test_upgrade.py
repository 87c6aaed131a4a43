"""From the last release to this checkout and back, while TaskModels have a constant load: no request is lost, and pods restart only where their agent changes."""

import json
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.api import DEPLOYMENT, POD, Object, eventually
from tests.cluster.disturbance import rolled_out
from tests.cluster.fleet import SYSTEM, Fleet
from tests.cluster.installation import CHART, RELEASE, VALUES
from tests.cluster.load import constant_load
from tests.cluster.local.cluster import Cluster
from tests.cluster.local.images import PRODUCT_IMAGE
from tests.cluster.oracles import healthy, identities, minimal, ready, settled
from tests.cluster.story import tell
from tests.released.last import last_release

RATE = 10.0  # requests per second over both tasks
AFTERWARDS = 30  # requests that must be answered after each step


def test_an_upgrade_and_the_way_back_lose_no_request_and_restart_what_changed(fleet: Fleet, cluster: Cluster) -> None:
    release = last_release()
    released = cluster.provide_released_image(release.source)
    try:
        with fleet.tenant("upgrade") as tenant:
            # One gateway replica: another one comes before it goes, and it is rolled four times here. Everything starts at once on one machine, so
            # requests are held as long as by default while its only pod misses a probe, and a gateway that goes still listens until kube-proxy has heard of it.
            sparse = "gateway.replicas=1,gateway.timeouts.hold=30,gateway.termination.shutdownDelay=20"
            old_values = ["--reset-values", "--values", str(release.values), "--set", sparse]
            deploy(fleet, cluster, release.chart, *old_values, image=released)
            number = json.loads(cluster.helm("history", RELEASE, "--namespace", SYSTEM, "--max", "1", "--output", "json"))[-1]["revision"]
            vendor, total = fleet.artifact("upgrade-vendor"), fleet.artifact("upgrade-total")
            better = fleet.artifact("upgrade-vendor", "v2")
            tenant.apply("vendor", vendor)
            tenant.apply("total", total)
            ready(fleet.api, tenant.namespace)
            before = identities(fleet.api, tenant.namespace)

            targets = [tenant.target("vendor", vendor, better), tenant.target("total", total, stream=True)]
            with constant_load(fleet.gateway_url, targets, rate=RATE) as load:
                load.wait_for(AFTERWARDS)

                # The recommended way: the agents' image is pinned. Nothing that serves is touched.
                taken_over = ["--reset-then-reuse-values", "--set", f"agent.image={released}"]
                deploy(fleet, cluster, CHART, *taken_over, image=PRODUCT_IMAGE)
                ready(fleet.api, tenant.namespace)
                load.wait_for(AFTERWARDS)
                minimal(before, identities(fleet.api, tenant.namespace))
                load.assert_no_error()

                # This operator and gateway understand the agents of the last release.
                tenant.apply("vendor", better)
                eventually(
                    lambda: better.mark in tenant.chat("vendor").text,
                    what="the new version answers",
                    within=120,
                    describe=lambda: tell(fleet.api, tenant.namespace, SYSTEM),
                )
                ready(fleet.api, tenant.namespace)
                assert agent_images(fleet, tenant.namespace) == {released}

                # Then the agents: pools roll.
                deploy(fleet, cluster, CHART, "--reset-then-reuse-values", "--set", "agent.image=", image=PRODUCT_IMAGE)
                pools_rolled(fleet, tenant.namespace, PRODUCT_IMAGE)
                load.wait_for(AFTERWARDS)
                load.assert_no_error()

                # And back, all at once.
                cluster.helm("rollback", RELEASE, str(number), "--namespace", SYSTEM)
                parts_rolled(fleet, released)
                pools_rolled(fleet, tenant.namespace, released)
                settled(fleet.api, tenant.namespace)
                load.wait_for(AFTERWARDS)
            load.assert_no_error()
            assert better.mark in tenant.chat("vendor").text
            healthy(fleet.api, SYSTEM)
    finally:
        deploy(fleet, cluster, CHART, "--reset-values", "--values", str(VALUES), image=PRODUCT_IMAGE)


def deploy(fleet: Fleet, cluster: Cluster, chart: Path, *options: str, image: str) -> None:
    """`helm upgrade` to a chart and an image; returns when operator and gateways are of it."""
    tag = image.rpartition(":")[2]
    cluster.helm("upgrade", "--install", RELEASE, str(chart), "--namespace", SYSTEM, *options, "--set", f"image.tag={tag}")
    parts_rolled(fleet, image)


def parts_rolled(fleet: Fleet, image: str) -> None:
    for name in ("taskfleet-operator", "taskfleet-gateway"):
        deployment = rolled_out(fleet.api, name, SYSTEM)
        assert images(deployment["spec"]["template"]["spec"])[name.removeprefix("taskfleet-")] == image


def pools_rolled(fleet: Fleet, namespace: str, image: str) -> None:
    """Returns when every pool's pods have agents of this image, and no other pod is left."""

    def told() -> bool:
        return all(images(one["spec"]["template"]["spec"])["agent"] == image for one in fleet.api.list(DEPLOYMENT, namespace))

    eventually(told, what=f"the pools' Deployments have {image}", within=120, describe=lambda: tell(fleet.api, namespace, SYSTEM))
    for one in fleet.api.list(DEPLOYMENT, namespace):
        rolled_out(fleet.api, one["metadata"]["name"], namespace)
    eventually(lambda: agent_images(fleet, namespace) == {image}, what="the pods before are gone", within=120)
    ready(fleet.api, namespace)


def agent_images(fleet: Fleet, namespace: str) -> set[str]:
    return {images(pod["spec"])["agent"] for pod in fleet.api.list(POD, namespace)}


def images(spec: Object) -> Mapping[str, str]:
    """The containers of a pod and their images."""
    return {one["name"]: one["image"] for one in [*spec.get("initContainers", []), *spec["containers"]]}
