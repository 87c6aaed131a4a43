"""Bad artifacts, bad images, bad versions: refused before traffic, clearly, while what served goes on serving."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.adapters import Flaw
from tests.cluster.api import POD, POOL, condition, eventually, is_true
from tests.cluster.fleet import Fleet, Tenant
from tests.cluster.load import constant_load
from tests.cluster.oracles import identities, minimal, ready, refused_clearly, settled
from tests.cluster.story import tell

# What a person must find in the message to know what to do.
TOLD: dict[Flaw, str] = {
    Flaw.WRONG_BASE: "base",
    Flaw.OVER_RANK: "rank",
    Flaw.CORRUPT: "safetensors",
    Flaw.PICKLE: "adapter_model.bin",
    Flaw.NO_WEIGHTS: "adapter_model.safetensors",
    Flaw.EMPTY: "empty",
}


@pytest.fixture(scope="module")
def team(fleet: Fleet) -> Iterator[Tenant]:
    with fleet.tenant("faulty") as tenant:
        tenant.apply("good", fleet.artifact("good"))
        ready(fleet.api, tenant.namespace)
        yield tenant


def test_flawed_artifacts_are_refused_before_traffic_and_bother_no_neighbour(fleet: Fleet, team: Tenant) -> None:
    before = identities(fleet.api, team.namespace)
    with constant_load(fleet.gateway_url, [team.target("good", fleet.artifact("good"))], rate=10) as load:
        for flaw in Flaw:
            team.apply(flaw, fleet.flawed(flaw))
        for flaw in Flaw:
            refused_clearly(fleet.api, team.namespace, flaw, reason="ArtifactInvalid", mentions=TOLD[flaw], within=120)
            assert not team.get(flaw)["status"].get("traffic")
        assert team.chat(Flaw.CORRUPT).status in {404, 503}
        load.wait_for(20)
    load.assert_no_error()
    (pod,) = fleet.api.list(POD, team.namespace)
    assert is_true(pod, "Ready"), "a broken adapter took the pod down"
    minimal(before, identities(fleet.api, team.namespace))
    for flaw in Flaw:
        team.remove(flaw)
    settled(fleet.api, team.namespace)


def test_wrong_pin_is_refused_clearly(fleet: Fleet, team: Tenant) -> None:
    team.apply("pinned", fleet.artifact("good"), adapter={"digest": fleet.artifact("pinned").digest})
    try:
        eventually(
            says(team, "pinned", "AdapterReady", "False"), what="the pin is refused", describe=lambda: tell(fleet.api, team.namespace)
        )
        assert not team.get("pinned")["status"].get("traffic")
        assert team.chat("pinned").status in {404, 503}
    finally:
        team.remove("pinned")


def test_bad_version_never_gets_traffic_and_a_good_one_follows(fleet: Fleet, team: Tenant) -> None:
    """v1 serves all along; v2 is corrupt; v3 is good."""
    one, three = fleet.artifact("story", "v1"), fleet.artifact("story", "v3")
    team.apply("story", one)
    ready(fleet.api, team.namespace, "story")
    with constant_load(fleet.gateway_url, [team.target("story", one, three)], rate=10) as load:
        team.apply("story", fleet.flawed(Flaw.CORRUPT))
        task = refused_clearly(fleet.api, team.namespace, "story", reason="CandidateFailed", mentions="safetensors", within=120)
        assert is_true(task, "Available"), "the stable version serves"
        assert task["status"]["stable"]["version"] == "v1"
        assert not is_true(task, "RolloutHealthy")
        load.wait_for(20)
        assert not load.answered_by(three.mark, f"{team.namespace}/story")
        team.apply("story", three)
        (task,) = ready(fleet.api, team.namespace, "story")
        assert task["status"]["stable"]["version"] == "v3"
        assert is_true(task, "RolloutHealthy")
        switched = time.monotonic()
        load.wait_for(20)
        assert all(three.mark in one.text for one in load.outcomes if one.started > switched), "an old answer after the switch was reported"
    load.assert_no_error()


def test_version_that_appears_later_is_found_without_help(fleet: Fleet, team: Tenant) -> None:
    name = f"late-{team.namespace}"
    team.apply("late", None, adapter={"source": f"oci://{fleet.registries.in_pods}/adapters/{name}", "version": "v1"})
    eventually(
        says(team, "late", "AdapterReady", "False", reason="ArtifactNotFound"),
        what="told",
        describe=lambda: tell(fleet.api, team.namespace),
    )
    settled(fleet.api, team.namespace)
    artifact = fleet.artifact(name)
    ready(fleet.api, team.namespace, "late")
    assert artifact.mark in team.chat("late").text


def test_bad_image_leaves_the_old_pods_serving_and_its_correction_restarts_nothing(fleet: Fleet) -> None:
    fleet.serving_class("images")
    with fleet.tenant("images") as tenant:
        artifact = fleet.artifact("images")
        tenant.apply("imaged", artifact, serving_class="images")
        ready(fleet.api, tenant.namespace)
        before = identities(fleet.api, tenant.namespace)
        with constant_load(fleet.gateway_url, [tenant.target("imaged", artifact)], rate=10) as load:
            fleet.serving_class("images", engine={"image": "taskfleet.local/no-such-engine:v9"})

            def told() -> bool:
                (pool,) = fleet.api.list(POOL, tenant.namespace)
                reasons = {one["reason"]: one["message"] for one in pool["status"]["conditions"]}
                assert "ImageUnavailable" in reasons, reasons
                return "no-such-engine:v9" in reasons["ImageUnavailable"]

            eventually(told, what="the pool names the image", within=90, describe=lambda: tell(fleet.api, tenant.namespace))
            settled(fleet.api, tenant.namespace)
            assert is_true(tenant.get("imaged"), "Available")
            load.wait_for(20)
            fleet.serving_class("images")
            ready(fleet.api, tenant.namespace)
            eventually(lambda: len(fleet.api.list(POD, tenant.namespace)) == 1, what="the failed pod is gone", within=90)
        load.assert_no_error()
        minimal(before, identities(fleet.api, tenant.namespace))
    fleet.remove_class("images")


def says(team: Tenant, name: str, kind: str, status: str, *, reason: str = "") -> Callable[[], bool]:
    def check() -> bool:
        found = condition(team.get(name), kind)
        assert found, f"no condition {kind}"
        assert found["status"] == status, found
        return not reason or found["reason"] == reason

    return check
