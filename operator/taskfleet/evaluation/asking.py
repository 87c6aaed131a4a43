"""Asks the revisions all examples: each example goes to both, one after the other, so that whatever slows the engine slows both alike."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from taskfleet.evaluation.endpoint import Endpoint, EndpointError, Reply
from taskfleet.evaluation.golden import Example


class AskingError(Exception):
    """The endpoint can't be asked, so nothing is known of the models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A revision, or just a model: its name in the report, and as it is called."""

    name: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One example and what came of it; `stable` is None where there is nobody to compare with."""

    example: Example
    candidate: Reply
    stable: Reply | None = None

    @property
    def is_answered(self) -> bool:
        """Has everybody who was asked answered, or refused to?"""
        return all(reply.text is not None or reply.refused for reply in (self.candidate, self.stable) if reply is not None)


async def ask_all(
    endpoint: Endpoint, examples: Sequence[Example], candidate: Subject, stable: Subject | None, *, concurrency: int, into: list[Asked]
) -> None:
    """Fills `into` in the order in which answers come: whoever ends this early has those that did. Raises AskingError once more examples failed than are worth going on for."""
    waiting = iter(enumerate(examples))
    failed = 0

    async def work() -> None:
        nonlocal failed
        for index, example in waiting:
            asked = await _ask(endpoint, example, candidate, stable, candidate_first=index % 2 == 0)
            into.append(asked)
            failed += not asked.is_answered
            if failed > max(3, len(examples) // 10):
                raise EndpointError(f"{failed} of {len(into)} examples had no answer, the last because of: {_why(asked)}")

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
    except* EndpointError as errors:
        raise AskingError(str(next(_single(errors)))) from None


async def _ask(endpoint: Endpoint, example: Example, candidate: Subject, stable: Subject | None, *, candidate_first: bool) -> Asked:
    if stable is None:
        return Asked(example=example, candidate=await endpoint.ask(candidate.model, example))
    if candidate_first:
        reply, reference = await endpoint.ask(candidate.model, example), await endpoint.ask(stable.model, example)
    else:
        reference, reply = await endpoint.ask(stable.model, example), await endpoint.ask(candidate.model, example)
    return Asked(example=example, candidate=reply, stable=reference)


def _why(asked: Asked) -> str:
    return next((reply.error for reply in (asked.candidate, asked.stable) if reply is not None and reply.text is None), "")


def _single(errors: BaseExceptionGroup[EndpointError]) -> Iterator[EndpointError]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _single(error)
        else:
            yield error
