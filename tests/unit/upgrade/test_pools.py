"""What this checkout's operator makes of the objects of a cluster that ran the last release. What differs from what that one made costs something everywhere at once."""

import re
from typing import Any

import pytest

from taskfleet.api.modelpool import ModelPool
from taskfleet.api.servingclass import ServingClass
from taskfleet.api.taskmodel import TaskModel
from taskfleet.resources.settings import PoolSettings
from tests.cluster.local.instance import REPOSITORY
from tests.released.last import last_release
from tests.released.pools import names_of, pods_of

RELEASED = last_release().pools()
ANNOUNCEMENT = "Every pool rolls"
VERSION = last_release().version
COST = f"""every pool of every cluster will roll when it is upgraded from {VERSION}: each pod is replaced, and each pool needs a spare device for that.
If that must be, say so under `## Unreleased` in CHANGELOG.md with a line that begins with "- {ANNOUNCEMENT}".
If not, let a new setting add nothing to the pod template where it has its default.
(While {VERSION} itself is not released yet, `make keep-release` takes the present state for it.)"""


def pods(entry: dict[str, Any]) -> dict[str, Any]:
    pool = ModelPool.model_validate(entry["pool"])
    return pods_of(pool, ServingClass.model_validate(entry["servingClass"]), PoolSettings(**entry["settings"]))


def announced() -> bool:
    """Whether the changelog tells people that pods will roll."""
    unreleased = re.search(r"^## Unreleased\n(.*?)(?=^## |\Z)", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE | re.DOTALL)
    assert unreleased, "CHANGELOG.md has no section `## Unreleased`"
    return bool(re.search(rf"^- {ANNOUNCEMENT}", unreleased[1], re.MULTILINE))


def test_pods_stay_as_they_are_or_the_changelog_says_that_every_pool_rolls() -> None:
    differences = [
        f"{place}: {before!r} became {now!r}"
        for entry in RELEASED["pools"]
        for place, before, now in differing(entry["template"], pods(entry)["template"], "template")
    ]
    if announced():
        assert differences, f'CHANGELOG.md announces "{ANNOUNCEMENT}", and no pod template differs from that of {VERSION}'
    else:
        assert not differences, f"{COST}\n" + "\n".join(differences[:20])


@pytest.mark.parametrize("part", ["selector", "route"])
def test_pods_are_found_as_before(part: str) -> None:
    """A Deployment's selector can't be changed at all, and a Service that selects other pods has none until they have rolled."""
    for entry in RELEASED["pools"]:
        assert pods(entry)[part] == entry[part]


@pytest.mark.parametrize("entry", RELEASED["taskModels"], ids=lambda entry: entry["taskModel"]["metadata"]["name"])
def test_revisions_pools_and_adapters_keep_their_names(entry: dict[str, Any]) -> None:
    """Another name is another object: a revision to be rolled out, a pool to be started, an adapter to be loaded."""
    assert names_of(TaskModel.model_validate(entry["taskModel"])) == {name: entry[name] for name in ("revision", "pool", "engineName")}


def test_the_record_holds_what_an_upgrade_can_change() -> None:
    assert len(RELEASED["pools"]) >= 2
    assert len(RELEASED["taskModels"]) >= 4
    for entry in RELEASED["pools"]:
        assert {one["name"] for one in entry["template"]["spec"]["initContainers"]} == {"agent", "base"}


def test_a_difference_is_told_with_its_place() -> None:
    before = {"spec": {"containers": [{"name": "engine", "image": "a"}]}}
    now = {"spec": {"containers": [{"name": "engine", "image": "b"}], "hostname": "x"}}
    assert differing(before, now, "template") == [
        ("template.spec.containers.0.image", "a", "b"),
        ("template.spec.hostname", None, "x"),
    ]


def differing(before: Any, now: Any, place: str) -> list[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(now, dict):
        names = [*before, *(name for name in now if name not in before)]
        return [one for name in names for one in differing(before.get(name), now.get(name), f"{place}.{name}")]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [one for index, pair in enumerate(zip(before, now, strict=True)) for one in differing(*pair, f"{place}.{index}")]
    return [] if before == now else [(place, before, now)]
