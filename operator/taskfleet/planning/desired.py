"""The document that tells a pool's agents what to hold. A function of the ModelPool's spec and its class: `metadata.generation` orders the documents of a pool, and the
fingerprint tells apart those of one generation, between which the class has changed.
"""

import hashlib

from taskfleet import names
from taskfleet.api.agent import DesiredAdapter, DesiredState, Limits, PoolIdentity
from taskfleet.api.modelpool import Member, ModelPool, Role
from taskfleet.api.servingclass import ServingClass
from taskfleet.planning.quantities import in_bytes


def engine_name_of(pool: ModelPool, member: Member) -> str | None:
    """What the engine calls the member: the pool's name where the base serves the task; None while the adapter has no digest."""
    if member.adapter is None:
        return pool.metadata.name
    if member.adapter.digest is None:
        return None
    return names.engine_name(pool.metadata.namespace, member.task_model, member.adapter.digest)


def desired_state(pool: ModelPool, serving_class: ServingClass) -> DesiredState:
    """The pool's document. Raises ValueError for a class whose sizes are no quantities."""
    spec = pool.spec
    limits, store = serving_class.spec.adapters, serving_class.spec.store
    adapters: dict[str, DesiredAdapter] = {}
    # Two revisions that differ in the prompt only have the same bytes and the same name; one entry stands for both, the stable one's.
    for member in sorted(spec.members, key=lambda member: (member.role is not Role.STABLE, member.revision)):
        name = engine_name_of(pool, member)
        if member.adapter is not None and name is not None and name not in adapters:
            adapters[name] = DesiredAdapter(
                engine_name=name, revision=member.revision, adapter=member.adapter, resolved_version=member.resolved_version
            )
    document = DesiredState(
        pool=PoolIdentity(namespace=pool.metadata.namespace, name=pool.metadata.name, uid=pool.metadata.uid),
        generation=pool.metadata.generation,
        base=spec.base,
        base_digest=spec.base_digest,
        base_resolved_version=spec.base_resolved_revision,
        served_base_name=pool.metadata.name,
        serve_base=any(member.adapter is None for member in spec.members),
        limits=Limits(
            max_rank=limits.max_rank,
            max_adapter_bytes=in_bytes(limits.max_size),
            max_base_bytes=in_bytes(store.max_base_size),
            store_bytes=in_bytes(store.size_limit) if store.size_limit is not None else None,
        ),
        max_resident=limits.max_resident,
        adapters=tuple(adapters[name] for name in sorted(adapters)),
    )
    # Left out where it says nothing, so that the documents of pools from before this field stay the same.
    unsaid = {"max_resident"} if document.max_resident is None else None
    return document.model_copy(update={"fingerprint": hashlib.sha256(document.model_dump_json(exclude=unsaid).encode()).hexdigest()})
