"""What is done with an answer once it has gone out, while a candidate is beside the stable revision: it is held against the task's schema, and the candidate may be asked the same.

A task with one revision in its traffic has nothing to be compared, and costs nothing here.
"""

import asyncio
import random
from collections.abc import Callable

from taskfleet.gateway.call import Call
from taskfleet.gateway.mirror import Mirror
from taskfleet.gateway.routes import Route, Target
from taskfleet.gateway.supervision import Supervision
from taskfleet.gateway.transcript import Transcript


class FollowUp:
    """`chance` gives numbers from 0 to 1."""

    def __init__(self, mirror: Mirror, supervision: Supervision, *, chance: Callable[[], float] = random.random) -> None:
        self._mirror = mirror
        self._supervision = supervision
        self._chance = chance

    def prepare(self, call: Call, route: Route, target: Target) -> None:
        """Before a request for live traffic of `route` goes to `target`: decides what is kept of the answer."""
        cohort = call.cohort
        call.mirror_to = call.transcript = None
        if cohort is None or cohort.revision.uid != target.revision.uid:
            return  # another revision answers for the one that was picked
        if target.revision.uid == route.targets[0].revision.uid and self._supervision.active:
            call.mirror_to = next((other for other in route.targets if other.shadow and self._chance() * 100 < other.shadow), None)
        call.schema_asked = target.revision.shaper.asks_for_schema(call.inference.body, call.inference.kind)
        if call.mirror_to is not None or (call.schema_asked and cohort.schema is not None):
            call.transcript = Transcript(call.inference.kind, stream=call.inference.stream)

    def answered(self, call: Call) -> None:
        """The answer is complete. A whole one is written before the loop's next turn, a stream has been."""
        asyncio.get_running_loop().call_soon(self._look, call)

    def _look(self, call: Call) -> None:
        if call.transcript is None or call.cohort is None:
            return
        text = call.transcript.text()
        if text is not None and call.schema_asked:
            call.cohort.check(text, call.cohort.live)
        if call.mirror_to is not None:
            self._mirror.ask(call, call.mirror_to, text)
