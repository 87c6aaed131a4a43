"""Which desired document is in force: the newest that was accepted, never an older one, never another pool's.

Documents come by the mounted ConfigMap, at the kubelet's pace, and by PUT, at once: so the mounted one may be behind. What was accepted is kept in the store's volume,
which lives as long as the pod: a restarted agent doesn't go back to a mounted document that is behind.
"""

import logging
from enum import Enum
from pathlib import Path

from pydantic import ValidationError

from taskfleet.api.agent import DesiredState
from taskfleet.logs import fields

log = logging.getLogger(__name__)

FILE = "desired.json"


class Offer(Enum):
    """What becomes of a document that is offered."""

    ACCEPTED = "accepted"
    UNCHANGED = "unchanged"  # the same is in force already
    STALE = "stale"  # a newer one is in force
    OTHER_POOL = "other-pool"  # the pod belongs to another pool
    CONTRADICTION = "contradiction"  # it changes what never changes within a pool, or names one thing twice


def judge(current: DesiredState | None, offered: DesiredState, *, replaces_equal: bool) -> Offer:
    """`replaces_equal`: other content of the same generation counts as newer. Limits come from the ServingClass and may change without a new generation of the pool."""
    if not _consistent(offered):
        return Offer.CONTRADICTION
    if current is None:
        return Offer.ACCEPTED
    if offered.pool.uid != current.pool.uid:
        return Offer.OTHER_POOL
    if offered.generation < current.generation:
        return Offer.STALE
    return _beside(current, offered, replaces_equal=replaces_equal)


def _consistent(offered: DesiredState) -> bool:
    names = [adapter.engine_name for adapter in offered.adapters]
    return len({*names, offered.served_base_name}) == len(names) + 1 and all(adapter.adapter.digest for adapter in offered.adapters)


def _beside(current: DesiredState, offered: DesiredState, *, replaces_equal: bool) -> Offer:
    """Of the same pool, and not older."""
    if offered == current:
        return Offer.UNCHANGED
    if current.base_digest is not None and offered.base_digest != current.base_digest:
        return Offer.CONTRADICTION
    if offered.generation == current.generation and not replaces_equal:
        return Offer.STALE
    return Offer.ACCEPTED


class DesiredDocument:
    """The document in force, kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self.current: DesiredState | None = None

    def restore(self) -> None:
        """Takes up what an earlier process of this pod had accepted."""
        try:
            self.current = DesiredState.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return
        except ValidationError as error:
            # Of another version of this program. The mounted document says the same or newer.
            log.warning("kept document can't be read", extra=fields(error=error.errors(include_input=False)[0]["msg"]))

    def offer(self, document: DesiredState, *, replaces_equal: bool) -> Offer:
        """Judges a document, and keeps it if it is accepted. Raises OSError when it can't be kept; then nothing has changed.

        Without an await: a PUT whose sender goes away can't leave it half done. It has to outlive this process only, so the disk is not waited for.
        """
        verdict = judge(self.current, document, replaces_equal=replaces_equal)
        if verdict is Offer.ACCEPTED:
            beside = self._path.with_name(f".{FILE}")
            beside.write_text(document.model_dump_json(by_alias=True))
            beside.replace(self._path)
            self.current = document
        return verdict
