"""What pods run. A request may wait for a pod's start, so these begin without the user's commands: the libraries of those take a second of a core to import."""

import os
from collections.abc import Callable, Mapping


def operator() -> None:
    from taskfleet.controller.main import run  # noqa: PLC0415
    from taskfleet.controller.settings import OperatorSettings  # noqa: PLC0415

    run(OperatorSettings.from_environment(os.environ))


def gateway() -> None:
    from taskfleet.gateway.main import run  # noqa: PLC0415
    from taskfleet.gateway.settings import GatewaySettings  # noqa: PLC0415

    run(GatewaySettings.from_environment(os.environ))


def agent() -> None:
    from taskfleet.agent.door import opened  # noqa: PLC0415

    door = opened(os.environ)  # before what takes its time

    from taskfleet.agent.main import run  # noqa: PLC0415
    from taskfleet.agent.settings import AgentSettings  # noqa: PLC0415

    run(AgentSettings.from_environment(os.environ), door)


def await_base() -> None:
    from taskfleet.agent.await_base import run  # noqa: PLC0415

    run(os.environ)


# By what stands behind `taskfleet` in a pod template; whatever else stands there is for the parser of the subcommands.
PARTS: Mapping[tuple[str, ...], Callable[[], None]] = {
    ("operator",): operator,
    ("gateway",): gateway,
    ("agent", "run"): agent,
    ("agent", "await-base"): await_base,
}
