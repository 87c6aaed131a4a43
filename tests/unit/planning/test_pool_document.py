"""What a pool's agents are told: the document of what their pods are to hold."""

from typing import Any

import pytest

from taskfleet.api.modelpool import Role
from taskfleet.planning.conditions import Outlook, outlook_of
from taskfleet.planning.snapshot import AgentView
from tests.unit.planning.builders import (
    agent,
    digest,
    key_for,
    member_of,
    pod,
    pool_of,
    revision_of,
    serving_class,
    task_model,
)
from tests.unit.planning.one_pool import ENGINE_NAME, REVISION, TASK, planned, status_of, the_pool


class TestDesiredDocument:
    def test_says_what_the_pods_hold(self) -> None:
        desired = planned(the_pool()).desired
        assert desired is not None
        assert desired.generation == 3
        assert desired.base_digest == digest("b")
        assert desired.served_base_name == the_pool().metadata.name
        assert not desired.serve_base
        assert [(adapter.engine_name, adapter.adapter.digest) for adapter in desired.adapters] == [(ENGINE_NAME, digest("a"))]
        assert (desired.limits.max_rank, desired.limits.max_adapter_bytes) == (64, 2 * 2**30)

    def test_leaves_out_members_without_digest(self) -> None:
        unresolved = pool_of(member_of(revision_of(TASK)), key=key_for(TASK))
        desired = planned(unresolved, revisions=(revision_of(TASK),), agents=()).desired
        assert desired is not None
        assert desired.adapters == ()

    def test_lists_equal_bytes_once_in_the_name_of_the_stable_revision(self) -> None:
        other = revision_of(task_model("total", task={"systemPrompt": "Be brief."}), digest=digest("a"))
        members = (member_of(other, role=Role.CANDIDATE, digest=digest("a")), member_of(REVISION, digest=digest("a")))
        desired = planned(pool_of(*members, key=key_for(TASK))).desired
        assert desired is not None
        assert [adapter.revision for adapter in desired.adapters] == [REVISION.metadata.name]

    def test_serves_the_base_only_where_a_member_has_no_adapter(self) -> None:
        bare = revision_of(task_model("chat", version=None))
        desired = planned(pool_of(member_of(bare), key=key_for(TASK))).desired
        assert desired is not None
        assert desired.serve_base

    @pytest.mark.parametrize("broken", [None, serving_class(engine={"type": "vLLM", "image": "i", "args": ["--port=1"]})])
    def test_cannot_be_said_without_a_usable_class(self, broken: Any) -> None:
        plan = planned(the_pool(), serving_class=broken)
        assert plan.desired is None
        assert outlook_of(status_of(plan).conditions) is Outlook.STALLED
        # What runs goes on, and is still seen.
        assert status_of(plan).ready_replicas == 1

    def test_is_put_to_agents_that_are_behind(self) -> None:
        agents = (
            agent(the_pool(), "pod-a", generation=3),
            agent(the_pool(), "pod-b", generation=2),
            agent(pool_of(key=key_for(TASK), index=1), "pod-c", generation=9),
            AgentView(pod="pod-d"),
            agent(the_pool(), "pod-gone", generation=1),
        )
        plan = planned(the_pool(), pods=tuple(pod(f"pod-{letter}") for letter in "abcd"), agents=agents)
        assert plan.put_to == ("pod-b", "pod-c")

    def test_is_put_to_agents_with_limits_that_the_class_no_longer_has(self) -> None:
        """A changed class gives the pool no new generation, and the kubelet brings the ConfigMap within a minute only."""
        before = planned(the_pool(), serving_class=serving_class(adapters={"maxRank": 16})).desired
        now = planned(the_pool()).desired
        assert before is not None
        assert now is not None
        assert before.generation == now.generation
        agents = (
            agent(the_pool(), "pod-a", fingerprint=now.fingerprint),
            agent(the_pool(), "pod-b", fingerprint=before.fingerprint),
            agent(the_pool(), "pod-c", fingerprint=before.fingerprint, generation=4),
        )
        plan = planned(the_pool(), pods=tuple(pod(f"pod-{letter}") for letter in "abc"), agents=agents)
        assert plan.put_to == ("pod-b",)

    def test_is_not_put_again_and_again_to_an_agent_that_names_no_fingerprint(self) -> None:
        assert planned(the_pool(), agents=(agent(the_pool(), "pod-a", fingerprint=None),)).put_to == ()

    def test_has_the_same_fingerprint_as_long_as_it_says_the_same(self) -> None:
        def fingerprint(**fields: Any) -> str | None:
            desired = planned(the_pool(), **fields).desired
            return desired.fingerprint if desired is not None else None

        assert fingerprint() == fingerprint()
        others: list[dict[str, Any]] = [{"adapters": {"maxRank": 16}}, {"adapters": {"maxSize": "1Mi"}}, {"store": {"maxBaseSize": "1Gi"}}]
        assert len({fingerprint(), *(fingerprint(serving_class=serving_class(**other)) for other in others)}) == 4
