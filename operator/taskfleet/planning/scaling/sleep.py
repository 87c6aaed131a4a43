"""Pools without pods on purpose: asleep, or on their way back."""

from taskfleet.api.conditions import ConditionType, Reason
from taskfleet.api.modelpool import ModelPool
from taskfleet.planning.conditions import find

# Reasons of a pool that answers though it has no Ready pod: requests wait for one.
OUT_OF_SLEEP = frozenset({Reason.AT_ZERO, Reason.WAKING})


def is_asleep(pool: ModelPool) -> bool:
    """Is it to have no pods?"""
    return pool.spec.replicas == 0


def is_waking(pool: ModelPool) -> bool:
    """Is it to have pods again, and has nothing gone wrong since it slept? Only of a pool without a Ready pod.

    By what its status said last: a pool that lost its pods, or never had one, is not waking.
    """
    before = find(pool.status.conditions, ConditionType.AVAILABLE)
    return not is_asleep(pool) and before is not None and before.status == "True" and before.reason in OUT_OF_SLEEP
