"""Two teams with tasks of the same names: who is answered, by whose bytes, and what others see of it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cluster.api import POD, POOL, REVISION, condition, eventually
from tests.cluster.fleet import PROMPT, STRANGER, USER, Artifact, Fleet, Tenant
from tests.cluster.load import Target, judge
from tests.cluster.openai_client import OpenAiClient
from tests.cluster.oracles import identities, minimal, ready, settled, silent
from tests.cluster.own_metrics import Writes
from tests.cluster.story import tell

TASKS = ("vendor", "date", "total")


@dataclass(frozen=True, slots=True)
class Teams:
    """`alpha` has three tasks; `beta` has one of the same name with other bytes, and one without adapter."""

    alpha: Tenant
    beta: Tenant
    artifacts: dict[str, Artifact]


@pytest.fixture(scope="module")
def teams(fleet: Fleet) -> Iterator[Teams]:
    with fleet.tenant("alpha") as alpha, fleet.tenant("beta") as beta:
        artifacts = {f"alpha/{task}": fleet.artifact(f"alpha-{task}") for task in TASKS} | {"beta/vendor": fleet.artifact("beta-vendor")}
        for task in TASKS:
            alpha.apply(task, artifacts[f"alpha/{task}"])
        beta.apply("vendor", artifacts["beta/vendor"])
        # Nothing but what must be said: the class is the default one, and the base answers.
        beta.apply("plain", None, serving_class=None)
        for tenant in (alpha, beta):
            ready(fleet.api, tenant.namespace)
        yield Teams(alpha, beta, artifacts)


def test_samples_settle_and_say_so(fleet: Fleet, teams: Teams) -> None:
    summaries = settled(fleet.api, teams.alpha.namespace, teams.beta.namespace)
    assert set(summaries.values()) == {"Ready"}
    status = teams.alpha.get("vendor")["status"]
    assert status["servingClassName"] == "simulator"
    assert status["stable"]["digest"] == teams.artifacts["alpha/vendor"].digest
    assert [target["weightPercent"] for target in status["traffic"]] == [100]
    assert status["url"]


def test_tasks_of_one_base_share_one_pod(fleet: Fleet, teams: Teams) -> None:
    pools = fleet.api.list(POOL, teams.alpha.namespace)
    assert [len(pool["spec"]["members"]) for pool in pools] == [3], tell(fleet.api, teams.alpha.namespace)
    assert len(fleet.api.list(POD, teams.alpha.namespace)) == 1


@pytest.mark.parametrize("task", TASKS)
def test_each_task_is_answered_by_its_own_bytes(teams: Teams, task: str) -> None:
    answer = teams.alpha.chat(task)
    assert teams.artifacts[f"alpha/{task}"].mark in answer.text
    assert answer.body["model"] == f"{teams.alpha.namespace}/{task}"
    assert answer.body["usage"]["completion_tokens"] > 0


def test_same_name_in_another_namespace_is_another_task(teams: Teams) -> None:
    assert teams.artifacts["beta/vendor"].mark in teams.beta.chat("vendor").text
    assert teams.artifacts["alpha/vendor"].mark in teams.alpha.chat("vendor").text


def test_task_without_adapter_is_answered_by_the_base(teams: Teams) -> None:
    text = teams.beta.chat("plain").text
    assert not [mark for mark in (artifact.mark for artifact in teams.artifacts.values()) if mark in text]


def test_bare_name_means_the_callers_own_namespace(teams: Teams) -> None:
    answer = teams.beta.client.chat("vendor", PROMPT)
    assert teams.artifacts["beta/vendor"].mark in answer.text
    assert answer.body["model"] == "vendor"


def test_revision_can_be_pinned(teams: Teams) -> None:
    revision = teams.alpha.get("vendor")["status"]["stable"]["revision"]
    answer = teams.alpha.chat(f"vendor@{revision}")
    assert teams.artifacts["alpha/vendor"].mark in answer.text
    assert teams.alpha.chat("vendor@ffffffffff").status == 404


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_both_completion_routes_answer(teams: Teams, path: str) -> None:
    body: dict[str, object] = {"model": f"{teams.alpha.namespace}/date", "max_tokens": 32}
    body |= {"messages": [{"role": "user", "content": PROMPT}]} if "chat" in path else {"prompt": PROMPT}
    answer = teams.alpha.client.request("POST", path, body)
    assert answer.status == 200, answer.raw
    assert teams.artifacts["alpha/date"].mark in answer.raw.decode()


def test_stream_carries_the_asked_name_to_its_end(teams: Teams) -> None:
    target: Target = teams.alpha.target("total", teams.artifacts["alpha/total"], stream=True)
    answer = teams.alpha.chat("total", stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert judge(target, answer.status, answer.raw)[1] == ""
    assert b'"usage":{' not in answer.raw.replace(b" ", b""), "the client didn't ask for usage"


def test_other_teams_tasks_do_not_exist_for_a_caller(teams: Teams) -> None:
    foreign = teams.alpha.client.chat(f"{teams.beta.namespace}/vendor", PROMPT)
    missing = teams.alpha.chat("no-such-task")
    assert (foreign.status, missing.status) == (404, 404)
    assert foreign.error_code == missing.error_code


def test_listing_shows_only_what_the_caller_may_invoke(fleet: Fleet, teams: Teams) -> None:
    assert sorted(teams.alpha.client.models()) == sorted(f"{teams.alpha.namespace}/{task}" for task in TASKS)
    stranger = fleet.api.token(STRANGER, teams.alpha.namespace, audiences=["taskfleet-gateway"])
    assert OpenAiClient(fleet.gateway_url, stranger).models() == []
    assert OpenAiClient(fleet.gateway_url, stranger).chat(f"{teams.alpha.namespace}/vendor", PROMPT).status == 404


def test_only_tokens_for_the_gateway_are_accepted(fleet: Fleet, teams: Teams) -> None:
    for_the_api_server = fleet.api.token(USER, teams.alpha.namespace)
    for token in (for_the_api_server, "", "not-a-token"):
        answer = OpenAiClient(fleet.gateway_url, token).chat(f"{teams.alpha.namespace}/vendor", PROMPT)
        assert answer.status == 401, (token[:10], answer.raw)
        assert answer.error_code
        assert "www-authenticate" in answer.headers


def test_revision_that_was_never_promoted_needs_preview(fleet: Fleet, teams: Teams) -> None:
    """A candidate whose version does not exist stays a candidate; whoever may only invoke cannot even tell that it is there."""
    teams.alpha.apply("total", fleet.artifact("alpha-total"), adapter={"version": "not-pushed-yet"})

    def candidate() -> str | None:
        revisions = fleet.api.list(REVISION, teams.alpha.namespace)
        return next((one["metadata"]["name"] for one in revisions if one["spec"]["adapter"]["version"] == "not-pushed-yet"), None)

    try:
        name = eventually(candidate, what="the candidate's revision", describe=lambda: tell(fleet.api, teams.alpha.namespace))
        assert teams.alpha.chat(f"total@{name}").status == 404
        assert teams.artifacts["alpha/total"].mark in teams.alpha.chat("total").text
    finally:
        teams.alpha.apply("total", teams.artifacts["alpha/total"])
    ready(fleet.api, teams.alpha.namespace)


def test_settled_fleet_is_silent(fleet: Fleet, teams: Teams) -> None:
    silent(fleet.api, teams.alpha.namespace, teams.beta.namespace, writes=Writes(fleet.operator_metrics()))


def test_leaving_task_is_unknown_at_once_and_leaves_its_neighbours_alone(fleet: Fleet, teams: Teams) -> None:
    before = identities(fleet.api, teams.alpha.namespace)
    gone = teams.alpha.get("date")["metadata"]["uid"]
    teams.alpha.remove("date")
    eventually(lambda: teams.alpha.chat("date").status == 404, what="the removed task is 404", within=3)

    def one_less() -> bool:
        members = [member for pool in fleet.api.list(POOL, teams.alpha.namespace) for member in pool["spec"]["members"]]
        assert sorted(member["taskModel"] for member in members) == ["total", "vendor"]
        return True

    eventually(one_less, what="the pool has two members", describe=lambda: tell(fleet.api, teams.alpha.namespace))
    ready(fleet.api, teams.alpha.namespace)
    after = identities(fleet.api, teams.alpha.namespace)
    kept = {name: uid for name, uid in before.uids.items() if uid != gone and not name.rpartition("/")[2].startswith("date-")}
    minimal(type(before)(kept, before.restarts), after)
    for task in ("vendor", "total"):
        assert teams.artifacts[f"alpha/{task}"].mark in teams.alpha.chat(task).text


def test_fields_of_later_versions_are_named_and_do_not_stop_serving(fleet: Fleet, teams: Teams) -> None:
    """O3 of what has no effect yet: the condition names the fields."""
    teams.beta.apply(
        "vendor",
        teams.artifacts["beta/vendor"],
        savings={"reference": {"name": "large", "inputPricePerMillion": "3.00", "outputPricePerMillion": "15.00"}},
    )

    def named() -> bool:
        task = teams.beta.get("vendor")
        found = condition(task, "FieldsWithoutEffect")
        assert found, "no such condition"
        assert found["status"] == "True"
        return "spec.savings" in found["message"]

    eventually(named, what="the fields are named", describe=lambda: tell(fleet.api, teams.beta.namespace))
    ready(fleet.api, teams.beta.namespace)
    assert teams.artifacts["beta/vendor"].mark in teams.beta.chat("vendor").text
