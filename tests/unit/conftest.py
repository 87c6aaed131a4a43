"""What holds for all tests that talk to nobody."""

from hypothesis import settings

# How long an example takes says what else the machine does, and nothing of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
