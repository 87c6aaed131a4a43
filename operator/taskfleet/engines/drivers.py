"""Where the driver of an engine is found.

Builders of pods import an engine's `arguments` directly instead: this module knows the clients, and those talk HTTP.
"""

from taskfleet.engines.base import Driver
from taskfleet.engines.vllm.driver import VLLM

_DRIVERS = {"vLLM": VLLM}


def driver(engine_type: str) -> Driver:
    """The driver for a ServingClass' `engine.type`; raises KeyError for an engine that can't be driven."""
    return _DRIVERS[engine_type]
