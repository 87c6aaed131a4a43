"""Inference engines: how each is started, asked and understood.

`settings` and `<engine>.arguments` are pure and may be imported by builders of pods; `<engine>.client` talks HTTP. What engines really do, measured by
version, stands where it is relied on.
"""
