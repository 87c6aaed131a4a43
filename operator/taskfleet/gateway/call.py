"""One client's request on its way: what was asked, what it has been through, and what its answer carries."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from taskfleet.gateway import request as requests
from taskfleet.gateway.answer_ids import AnswerIds
from taskfleet.gateway.demand import Demand
from taskfleet.gateway.hold import HeldReason
from taskfleet.gateway.meter import RevisionMeter
from taskfleet.gateway.model_name import ModelName
from taskfleet.gateway.places import Place
from taskfleet.gateway.records import Key
from taskfleet.gateway.request import InferenceRequest
from taskfleet.gateway.routes import Route, Target
from taskfleet.gateway.tally import Tally
from taskfleet.gateway.time_limits import TimeLimits
from taskfleet.gateway.trace_context import TraceContext
from taskfleet.gateway.tracing import RequestSpan
from taskfleet.gateway.transcript import Transcript
from taskfleet.gateway.upstream import REQUEST_ID
from taskfleet.names import CONVERSATION_HEADER

REVISION_HEADER = "x-taskfleet-revision"
HELD_HEADER = "x-taskfleet-held-seconds"
HELD_REASON_HEADER = "x-taskfleet-held-reason"


@dataclass(slots=True, kw_only=True)
class Call:
    """`request_id` is the client's or ours; `answer_headers` are those of every answer to this client."""

    name: ModelName
    raw: bytes
    inference: InferenceRequest
    request_id: str
    limits: TimeLimits
    place: Place
    ids: AnswerIds
    client_headers: Mapping[str, str] = field(default_factory=dict)
    caller: str = ""  # its user name
    comments: bool = False  # its stream may begin with comments while it waits
    counted: bool = True  # as demand: an evaluation is none
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    trace: TraceContext | None = None  # the client's
    span: RequestSpan | None = None  # where spans are made
    began: float = field(default_factory=time.monotonic)
    demand: Demand = field(default_factory=Demand)  # the task's; one of its own where it is not counted
    meter: RevisionMeter | None = None  # of the revision that was tried last
    cohort: Tally | None = None  # of the revision that was picked; none where the client pinned one
    asked: Target | None = None  # what was tried last
    asked_at: float = 0.0  # monotonic
    cohort_broke: bool = False  # the picked revision broke off an attempt
    route: Route | None = None  # where a candidate is beside the stable revision
    transcript: Transcript | None = None  # of the answer, where it is looked at afterwards
    schema_asked: bool = False  # it asks for an answer of the task's own schema
    mirror_to: Target | None = None  # the candidate that is asked the same
    held: float = 0.0  # seconds that it has waited
    held_reason: HeldReason | None = None  # why it began to wait
    refusals: set[str] = field(default_factory=set)  # in this round: why pods did not answer (ElsewhereError.reason)
    in_vain: bool = False  # it waited, and no pod came
    comment_at: float | None = None  # monotonic: when its client is to get the next sign of life
    opened: web.StreamResponse | None = None  # its stream, where that has begun before any pod answered
    give_up: float | None = None  # monotonic; set at the first trouble
    rounds: int = 0  # over all pods, without success
    attempts: int = 0  # counted where spans are made
    executed: int = 0  # attempts that may have reached an engine
    tried: dict[str, set[str]] = field(default_factory=dict)  # in this round: addresses by engine model
    prepared_for: str | None = None  # UID of the revision whose settings are in `inference`
    _conversation: str | None = None

    @property
    def task(self) -> Key:
        """The TaskModel's namespace and name."""
        return self.name.namespace, self.name.name

    @property
    def deadline(self) -> float:
        """Monotonic: nothing of it goes on after this, however often it was tried."""
        return self.began + self.limits.request

    @contextmanager
    def waits(self) -> Iterator[None]:
        """Counts it as held for the time of the block."""
        self.demand.held += 1
        self.demand.version += 1
        try:
            yield
        finally:
            self.demand.held -= 1
            self.demand.version += 1

    def body_for(self, target: Target, upstream_id: str) -> bytes:
        """The body for a revision: its own prompt, defaults and schema. Raises BadRequestError."""
        if self.prepared_for != target.revision.uid:
            if self.prepared_for is not None:
                self.inference = requests.parse(self.raw, self.inference.kind)
            self.inference.prepare(target.revision.shaper)
            self.prepared_for = target.revision.uid
        return self.inference.encode(target.model, upstream_id)

    def conversation(self) -> str:
        """What choices stick to: what the client calls it, else something of the request as it was sent, whatever a task has put around it since."""
        if self._conversation is None and (named := self.client_headers.get(CONVERSATION_HEADER)):
            self._conversation = f"named {named}"
        if self._conversation is None:
            original = self.inference if self.prepared_for is None else requests.parse(self.raw, self.inference.kind)
            self._conversation = original.conversation()
        return self._conversation

    def upstream_id(self, target: Target) -> str:
        """The request's id for one attempt. It ends with something of our own: engines use it as a key, and two clients may send the same; and it makes the answer's id."""
        token = self.ids.make(revision_uid=target.revision.uid, caller=self.caller, pinned=self.name.revision is not None, now=time.time())
        return f"{self.request_id}-{token}"

    def headers(self, target: Target) -> dict[str, str]:
        """Headers of the answer beside Content-Type."""
        headers = {**self.answer_headers, REQUEST_ID: self.request_id, REVISION_HEADER: target.revision.name}
        return headers | self.held_headers()

    def held_headers(self) -> dict[str, str]:
        """How long it has waited and why; nothing where it has not."""
        if self.held_reason is None:
            return {}
        return {HELD_HEADER: f"{self.held:.3f}", HELD_REASON_HEADER: self.held_reason.value}
