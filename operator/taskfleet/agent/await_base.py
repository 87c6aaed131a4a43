"""`taskfleet agent await-base`: an init container after the agent's, so that the engine starts on local, verified files."""

import logging
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from taskfleet import logs
from taskfleet.agent import signs
from taskfleet.logs import fields

log = logging.getLogger(__name__)

# Somebody may be waiting for this pod.
_LOOK_SECONDS = 0.05


def run(environment: Mapping[str, str]) -> None:
    """Returns once the agent beside has staged the base. Why it hasn't yet is said by the agent, in its state and its log.

    Three of the agent's settings, which the agent has checked. To import their model takes longer than all that is done here, and the engine waits for it.
    """
    style: Literal["text", "json"] = "json" if environment.get("TASKFLEET_LOG_STYLE") == "json" else "text"
    logs.configure(level=environment.get("TASKFLEET_LOG_LEVEL", "INFO"), style=style)
    # As a container's first process it would not be ended by a signal that it doesn't handle.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    sign = Path(environment.get("TASKFLEET_RUN", "/run/taskfleet")) / signs.BASE_READY
    log.info("waiting for the base", extra=fields(sign=str(sign)))
    while not sign.exists():
        time.sleep(_LOOK_SECONDS)
    log.info("the base is staged")
