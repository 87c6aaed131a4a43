"""Desired documents for tests, and a pod that has no peers."""

import threading
from pathlib import Path

from taskfleet.agent.board import Board
from taskfleet.agent.flights import Flights
from taskfleet.agent.metrics import AgentMetrics
from taskfleet.agent.peers import Peers
from taskfleet.api.agent import DesiredAdapter, DesiredState, Limits, PoolIdentity
from taskfleet.api.taskmodel import Adapter, Base

LIMITS = Limits(max_rank=8, max_adapter_bytes=1000, max_base_bytes=1000)
DIGEST = "sha256:" + "a" * 64


def adapter(name: str, digest: str | None = DIGEST) -> DesiredAdapter:
    return DesiredAdapter(engine_name=name, revision=name, adapter=Adapter(source="oci://host/x", version="v1", digest=digest))


def document(
    generation: int = 1, *names: str, uid: str = "pool", limits: Limits = LIMITS, base_digest: str | None = DIGEST
) -> DesiredState:
    return DesiredState(
        pool=PoolIdentity(namespace="finance", name="tiny", uid=uid),
        generation=generation,
        base=Base(source="oci://host/base", revision="v1"),
        base_digest=base_digest,
        served_base_name="tiny",
        limits=limits,
        adapters=tuple(adapter(name) for name in names),
    )


def no_peers() -> Peers:
    metrics = AgentMetrics(Board("alone", Flights()))
    return Peers(token_file=Path("/nowhere"), own_address="", fixed=(), ended=threading.Event(), metrics=metrics)
