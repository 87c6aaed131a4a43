"""`taskfleet agent await-base`: an init container after the agent's, so that the engine starts on local, verified files."""

import logging
import signal
import sys
import time

from taskfleet import logs
from taskfleet.agent import signs
from taskfleet.agent.settings import AgentSettings
from taskfleet.logs import fields

log = logging.getLogger(__name__)


def run(settings: AgentSettings) -> None:
    """Returns once the agent beside has staged the base. Why it hasn't yet is said by the agent, in its state and its log."""
    logs.configure(level=settings.log_level, style=settings.log_style)
    # As a container's first process it would not be ended by a signal that it doesn't handle.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    sign = settings.run / signs.BASE_READY
    log.info("waiting for the base", extra=fields(sign=str(sign)))
    while not sign.exists():
        time.sleep(0.2)
    log.info("the base is staged")
