"""Files in the folder that agent and engine container share: how they tell each other what no request could."""

BASE_READY = "base-ready"  # by the agent: the base is staged and verified
DRAIN = "drain"  # by the engine's preStop: the engine is to end
DRAINED = "drained"  # by the agent: nothing is in flight any more
