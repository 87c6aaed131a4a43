"""A pool of one task that is settled: its revision is proven on the one pod. Tests change what they are about."""

from typing import Any

from taskfleet.api.modelpool import MemberStatus, ModelPool, ModelPoolStatus
from taskfleet.planning import pool
from taskfleet.planning.plans import PoolPlan
from taskfleet.planning.snapshot import PoolSnapshot
from tests.unit.planning.builders import (
    NOW,
    agent,
    deployment,
    digest,
    key_for,
    member_of,
    pod,
    pool_of,
    report,
    revision_of,
    serving_class,
    task_model,
)

TASK = task_model("total")
REVISION = revision_of(TASK, digest=digest("a"))
ENGINE_NAME = f"finance.total.{'a' * 32}"


def the_pool(**fields: Any) -> ModelPool:
    return pool_of(member_of(REVISION, digest=digest("a")), key=key_for(TASK), generation=3, base_digest=digest("b"), **fields)


def snapshot(the_pool: ModelPool, **fields: Any) -> PoolSnapshot:
    plain: dict[str, Any] = {
        "serving_class": serving_class(),
        "deployment": deployment(),
        "pods": (pod(),),
        "agents": (agent(the_pool, "pod-a", report(ENGINE_NAME)),),
        "revisions": (REVISION,),
    }
    return PoolSnapshot(pool=the_pool, **plain | fields)


def planned(the_pool: ModelPool, **fields: Any) -> PoolPlan:
    return pool.plan(snapshot(the_pool, **fields), now=NOW)


def status_of(plan: PoolPlan) -> ModelPoolStatus:
    assert plan.status is not None
    return plan.status


def member_status(plan: PoolPlan) -> MemberStatus:
    (member,) = status_of(plan).members
    return member


def reason_of(plan: PoolPlan) -> str:
    return next(condition.reason for condition in status_of(plan).conditions if condition.type == "Ready")
