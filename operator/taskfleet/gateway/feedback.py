"""`POST /v1/feedback`: a user's verdict about an answer, counted for the revision that gave it.

Whoever got the answer may judge it, once; nobody else can find out that it was ever given. A correction is checked, counted and let go: it may have in it whatever the user
knows, and a gateway is no place to keep that, with neither an owner nor an end. The reply says so. Neither ids nor corrections are logged.
"""

import time
from dataclasses import dataclass
from typing import Any

import orjson

from taskfleet.gateway.answer_ids import AnswerIds, AnswerToken, Keys, UnknownKeyError, read
from taskfleet.gateway.auth import INVOKE, PREVIEW, Access, Caller
from taskfleet.gateway.errors import BadRequestError, UnavailableError, UnknownAnswerError
from taskfleet.gateway.meter import Meter
from taskfleet.gateway.records import RevisionRecord
from taskfleet.gateway.routes import RouteTable
from taskfleet.gateway.tally import Measurements
from taskfleet.gateway.votes import Verdict, VoteRate, Votes

PATH = "/v1/feedback"
MAX_CORRECTION_BYTES = 16 * 1024
# JSON may write six bytes for one.
MAX_BODY_BYTES = 6 * MAX_CORRECTION_BYTES + 4096
_RETRY_AFTER = 5


@dataclass(frozen=True, slots=True)
class Vote:
    """What a client sends."""

    answer_id: str
    verdict: Verdict
    corrected: bool = False  # it came with a correction


class Feedback:
    """Takes votes."""

    def __init__(
        self,
        *,
        table: RouteTable,
        access: Access,
        meter: Meter,
        measurements: Measurements,
        ids: AnswerIds,
        keys: Keys,
        votes: Votes,
        rate: VoteRate,
    ) -> None:
        self._table = table
        self._access = access
        self._meter = meter
        self._measurements = measurements
        self._ids = ids
        self._keys = keys
        self._votes = votes
        self._rate = rate

    def admit(self, caller: Caller) -> None:
        """Before its body is read. Raises TooManyRequestsError, and UnavailableError where no answer can be known again."""
        self._rate.take(caller.username, time.monotonic())
        if self._keys.ring.newest is None:
            raise UnavailableError(
                "Verdicts can't be taken now: the key of the answers' ids was not read yet",
                code="feedback_unavailable",
                retry_after=_RETRY_AFTER,
            )

    async def take(self, caller: Caller, raw: bytes) -> dict[str, Any]:
        """The reply to a vote. Raises ApiError."""
        vote = parse(raw)
        token = read(vote.answer_id)
        if token is None:
            raise UnknownAnswerError
        revision = await self._revision(caller, token)
        if self._votes.cast(token.head, vote.verdict):
            self._count(revision, token, vote)
        return {
            "object": "feedback",
            "id": vote.answer_id,
            "model": f"{revision.namespace}/{revision.task_model}",
            "revision": revision.name,
            "verdict": vote.verdict.value,
            "correction_stored": False,
        }

    def _count(self, revision: RevisionRecord, token: AnswerToken, vote: Vote) -> None:
        self._meter.of((revision.namespace, revision.task_model), revision.name).voted(vote.verdict, corrected=vote.corrected)
        if not token.pinned:
            # As with requests: whoever asks for a revision by name is no sample of those who did not choose.
            self._measurements.of(revision).voted(good=vote.verdict is Verdict.GOOD)

    async def _revision(self, caller: Caller, token: AnswerToken) -> RevisionRecord:
        """The revision that gave the answer to this caller, who may still ask it. Raises UnknownAnswerError, UnavailableError."""
        revision = self._table.marked(token.mark)
        if revision is None or not await self._genuine(caller, token, revision):
            raise UnknownAnswerError
        for subresource in (INVOKE, PREVIEW):
            if await self._access.may(caller, subresource, revision.namespace, revision.task_model):
                return revision
        raise UnknownAnswerError

    async def _genuine(self, caller: Caller, token: AnswerToken, revision: RevisionRecord) -> bool:
        for attempt in range(2):
            try:
                return self._ids.genuine(token, revision_uid=revision.uid, caller=caller.username, now=time.time())
            except UnknownKeyError:
                if not attempt:
                    await self._keys.reread()
        return False


def parse(raw: bytes) -> Vote:
    """Raises BadRequestError naming the field that is wrong. Fields that nobody knows are let be."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"The body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise BadRequestError("The body must be a JSON object", code="invalid_json")
    answer_id, verdict, correction = body.get("id"), body.get("verdict"), body.get("correction")
    if not isinstance(answer_id, str) or not answer_id:
        raise BadRequestError("'id' must be the id of an answer", param="id")
    if verdict not in tuple(Verdict):
        raise BadRequestError("'verdict' must be 'good' or 'bad'", param="verdict")
    if correction is not None and not isinstance(correction, str):
        raise BadRequestError("'correction' must be text", param="correction")
    if correction is not None and len(correction.encode()) > MAX_CORRECTION_BYTES:
        raise BadRequestError(f"'correction' must not be longer than {MAX_CORRECTION_BYTES} bytes", param="correction")
    # An empty one says nothing.
    return Vote(answer_id, Verdict(verdict), corrected=bool(correction))
