"""What the replay's engines take, and where each figure comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.replay.engine import Timings
from tests.benchmarks.replay.trace import Recorded


@dataclass(frozen=True, slots=True)
class Figure:
    """`source` begins with "measured" or "chosen"."""

    what: str
    value: float
    unit: str
    source: str


COLD_START = (
    Figure("pod scheduled, containers created", 2.0, "s", "chosen"),
    Figure("containers started until Ready", 53.0, "s", "measured: vLLM 0.32.0 on CPU in a pod, base on a PersistentVolume"),
    Figure("adapters loaded and proven", 0.1, "s", "chosen; a load alone was measured at 11 ms"),
)
SLOTS = Figure("requests at once in an engine", 32, "", "chosen: --max-num-seqs of the project's engines on CPU")
# The lower of two runs, with raised priority on a machine that was busy with other things (load average 5 to 16).
MEASURED = "measured: bench_engine_speed"
PROMPT = Figure("prompt", 0.49, "ms per token", MEASURED)
ANSWER = {
    1: Figure("answer, alone", 23.0, "ms per token", MEASURED),
    4: Figure("answer, 4 at once", 34.6, "ms per token", MEASURED),
    8: Figure("answer, 8 at once", 36.3, "ms per token", MEASURED),
    16: Figure("answer, 16 at once", 49.2, "ms per token", MEASURED),
    32: Figure("answer, 32 at once", 87.5, "ms per token", MEASURED),
}
FIGURES = (*COLD_START, SLOTS, PROMPT, *ANSWER.values())


def timings(*, cold_start_seconds: float | None = None) -> Timings:
    """The table's; with another cold start where one is given."""
    return Timings(
        token_seconds=tuple((running, figure.value / 1000) for running, figure in ANSWER.items()),
        prompt_token_seconds=PROMPT.value / 1000,
        slots=int(SLOTS.value),
        cold_start_seconds=sum(figure.value for figure in COLD_START) if cold_start_seconds is None else cold_start_seconds,
    )


def pod_rate(recorded: Sequence[Recorded], engine: Timings, concurrency: int) -> float:
    """Requests of this trace a second that a pod answers while it has so many at once."""
    work = sum(engine.work(one.prompt_tokens, one.answer_tokens) for one in recorded) / len(recorded)
    return concurrency * engine.token(1) / engine.token(concurrency) / work
