"""What decisions and pod builders know of each engine: its command, arguments and environment, and what may not be set beside them. No clients here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from taskfleet.api.servingclass import EngineType
from taskfleet.engines.settings import EngineSettings
from taskfleet.engines.vllm import arguments as vllm


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStart:
    """How one engine is started."""

    command: tuple[str, ...]
    arguments: Callable[[EngineSettings], tuple[str, ...]]
    environment: Callable[[EngineSettings], dict[str, str]]
    forbidden_arguments: Callable[[Sequence[str]], list[str]]
    forbidden_environment: Callable[[Sequence[str]], list[str]]


ENGINE_STARTS: Mapping[EngineType, EngineStart] = {
    EngineType.VLLM: EngineStart(
        command=vllm.COMMAND,
        arguments=vllm.arguments,
        environment=vllm.environment,
        forbidden_arguments=vllm.forbidden_arguments,
        forbidden_environment=vllm.forbidden_environment,
    ),
}
