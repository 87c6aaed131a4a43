"""PersistentVolumeClaims that artifacts come from: `pvc://<claim>/<folder>`.

A claim is offered by its label; without it nobody could read a database's volume by naming it as an adapter. A pool's pods mount the claims of its base and its members: a new
claim rolls them, and a claim that is taken back stays mounted for what is a member already.
"""

from taskfleet import names
from taskfleet.api.modelpool import ModelPoolSpec

_PREFIX = "pvc://"


def claim_of(source: str) -> str | None:
    """The claim that a source is in; None for sources of other schemes."""
    return source.removeprefix(_PREFIX).partition("/")[0] if source.startswith(_PREFIX) else None


def claims_of_pool(spec: ModelPoolSpec) -> tuple[str, ...]:
    """The claims that the pool's pods mount, in a fixed order."""
    sources = [spec.base.source, *(member.adapter.source for member in spec.members if member.adapter is not None)]
    return tuple(sorted({claim for source in sources if (claim := claim_of(source)) is not None}))


def volume_of(claim: str) -> str:
    """The volume's name in a pod. Claims may have longer names than volumes."""
    return f"claim-{names.short_hash(claim, length=16)}"
