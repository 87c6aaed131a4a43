"""How far members are, by what the pool's agents report."""

from taskfleet.api.agent import AdapterPhase
from taskfleet.api.conditions import Reason
from taskfleet.api.modelpool import MemberState
from taskfleet.api.revision import TaskModelRevision
from taskfleet.planning.snapshot import AgentView
from tests.unit.planning.builders import (
    agent,
    digest,
    key_for,
    member_of,
    pod,
    pool_of,
    report,
    revision_of,
    task_model,
)
from tests.unit.planning.one_pool import ENGINE_NAME, TASK, member_status, planned, status_of, the_pool


class TestMembers:
    def test_every_ready_pod_must_have_proven_it(self) -> None:
        agents = (
            agent(the_pool(), "pod-a", report(ENGINE_NAME)),
            agent(the_pool(), "pod-b", report(ENGINE_NAME, AdapterPhase.LOADING, "Loading", "the engine is busy")),
        )
        plan = planned(the_pool(), pods=(pod("pod-a"), pod("pod-b")), agents=agents)
        assert (member_status(plan).state, member_status(plan).reason) == (MemberState.PENDING, "Loading")
        assert member_status(plan).message == "pod pod-b: the engine is busy"

    def test_steps_that_go_well_are_told_in_the_same_words_in_whatever_pod(self) -> None:
        staging, loading = (report(ENGINE_NAME, phase, "Loading") for phase in (AdapterPhase.STAGING, AdapterPhase.LOADING))
        said = set()
        for first, second in ((staging, staging), (loading, staging), (report(ENGINE_NAME), loading)):
            agents = (agent(the_pool(), "pod-a", first), agent(the_pool(), "pod-b", second))
            said.add(member_status(planned(the_pool(), pods=(pod("pod-a"), pod("pod-b")), agents=agents)))
        assert [one.state for one in said] == [MemberState.PENDING]

    def test_pods_that_serve_nobody_do_not_count(self) -> None:
        agents = (
            agent(the_pool(), "pod-a", report(ENGINE_NAME)),
            agent(the_pool(), "pod-b", report(ENGINE_NAME, AdapterPhase.STAGING, "Loading")),
        )
        for other in (pod("pod-b", ready=False), pod("pod-b", deleting=True)):
            assert member_status(planned(the_pool(), pods=(pod("pod-a"), other), agents=agents)).state is MemberState.PROVEN

    def test_no_ready_pod_proves_nothing(self) -> None:
        plan = planned(the_pool(), pods=(pod(ready=False),))
        assert (member_status(plan).state, member_status(plan).reason) == (MemberState.PENDING, "NoReadyPods")

    def test_one_pod_that_refuses_it_for_good_fails_it(self) -> None:
        refused = report(ENGINE_NAME, AdapterPhase.FAILED, "ArtifactInvalid", "rank 128 is above 64")
        agents = (agent(the_pool(), "pod-a", report(ENGINE_NAME)), agent(the_pool(), "pod-b", refused))
        plan = planned(the_pool(), pods=(pod("pod-a"), pod("pod-b", ready=False)), agents=agents)
        assert (member_status(plan).state, member_status(plan).reason) == (MemberState.FAILED, "ArtifactInvalid")

    def test_reason_of_another_version_of_the_agent_is_translated(self) -> None:
        plan = planned(the_pool(), agents=(agent(the_pool(), "pod-a", report(ENGINE_NAME, AdapterPhase.FAILED, "Novelty")),))
        assert member_status(plan).reason == Reason.ENGINE_REJECTED

    def test_unheard_agent_changes_nothing_that_was_said(self) -> None:
        proven = status_of(planned(the_pool()))
        plan = planned(the_pool(status=proven), agents=(AgentView(pod="pod-a"),))
        assert plan.status == proven

    def test_unheard_agent_proves_nothing_new(self) -> None:
        assert member_status(planned(the_pool(), agents=())).state is MemberState.PENDING

    def test_agent_with_an_older_document_proves_nothing_new(self) -> None:
        """It may have let the adapter go between that document and this one, and not have said so yet."""
        generation = the_pool().metadata.generation - 1
        behind = (agent(the_pool(), "pod-a", report(ENGINE_NAME), generation=generation),)
        assert member_status(planned(the_pool(), agents=behind)).state is MemberState.PENDING
        proven = status_of(planned(the_pool()))
        assert planned(the_pool(status=proven), agents=behind).status == proven, "a neighbour that joins unsettles nobody"

    def test_report_for_another_pool_of_the_same_name_does_not_count(self) -> None:
        earlier = pool_of(key=key_for(TASK), index=1)
        plan = planned(the_pool(), agents=(agent(earlier, "pod-a", report(ENGINE_NAME)),))
        assert member_status(plan).state is MemberState.PENDING

    def test_version_that_moved_is_told_by_one_agent_and_kept_while_none_is_heard(self) -> None:
        moved = report(ENGINE_NAME).model_copy(update={"upstream_digest": digest("f")})
        agents = (agent(the_pool(), "pod-a", report(ENGINE_NAME)), agent(the_pool(), "pod-b", moved))
        plan = planned(the_pool(), pods=(pod("pod-a"), pod("pod-b")), agents=agents)
        assert (member_status(plan).state, member_status(plan).upstream_digest) == (MemberState.PROVEN, digest("f"))
        unheard = planned(the_pool(status=status_of(plan)), agents=(AgentView(pod="pod-a"),))
        assert member_status(unheard).upstream_digest == digest("f")
        back = planned(the_pool(status=status_of(plan)))
        assert member_status(back).upstream_digest is None

    def test_version_does_not_matter_where_the_digest_is_pinned(self) -> None:
        adapter = {"source": "oci://registry.example/total", "version": "v1", "digest": digest("a")}
        pinned = revision_of(task_model(adapter=adapter), digest=digest("a"))
        held = pool_of(member_of(pinned, digest=digest("a")), key=key_for(TASK), generation=3, base_digest=digest("b"))
        moved = report(ENGINE_NAME).model_copy(update={"upstream_digest": digest("f")})
        plan = planned(held, revisions=(pinned,), agents=(agent(held, "pod-a", moved),))
        assert (member_status(plan).state, member_status(plan).upstream_digest) == (MemberState.PROVEN, None)

    def test_lost_adapter_is_pending_again(self) -> None:
        proven = status_of(planned(the_pool()))
        plan = planned(the_pool(status=proven), agents=(agent(the_pool(), "pod-a", report(ENGINE_NAME, AdapterPhase.LOADING, "Loading")),))
        assert member_status(plan).state is MemberState.PENDING

    def test_task_without_adapter_is_proven_when_the_pods_know_that_the_base_is_served(self) -> None:
        bare: TaskModelRevision = revision_of(task_model("chat", version=None))
        the_pool = pool_of(member_of(bare), key=key_for(TASK), generation=2, base_digest=digest("b"))
        behind = planned(the_pool, revisions=(bare,), agents=(agent(the_pool, "pod-a", generation=1),))
        assert member_status(behind).state is MemberState.PENDING
        level = planned(the_pool, revisions=(bare,), agents=(agent(the_pool, "pod-a", generation=2),))
        assert member_status(level).state is MemberState.PROVEN
