"""Is the pod Ready? Readiness is the pod's, residency is the adapter's: a broken adapter takes no neighbour down, and one that is added later makes no Ready pod unready."""

from taskfleet.agent.base_stage import BaseStage
from taskfleet.agent.board import Board
from taskfleet.agent.engine_watch import EngineWatch
from taskfleet.agent.residents import Residents


class Readiness:
    """Becomes true once per run of the engine, when every adapter wanted at that time has had its attempt; ends with the engine, or with a drain."""

    def __init__(self, *, base: BaseStage, watch: EngineWatch, residents: Residents, board: Board) -> None:
        self._base = base
        self._watch = watch
        self._residents = residents
        self._board = board
        self._settled_in_run: int | None = None

    def objection(self) -> str | None:
        """Why the pod is not Ready; None if it is."""
        if self._board.draining:
            return "draining"
        if self._base.shapes is None:
            return "the base is not staged"
        if not self._watch.healthy:
            return "the engine is not healthy"
        if self._settled_in_run != self._watch.starts:
            if not self._residents.settled():
                return "adapters are being loaded for the first time"
            self._settled_in_run = self._watch.starts
        return None
