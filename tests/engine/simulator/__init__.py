"""A stand-in for vLLM in tests: its API, its error table, its hazards, its slots, without a model behind it.

Answers are made from the adapter's bytes and the prompt, so that a test can tell which files answered. The same contract tests hold it and the real engine; what a test needs
beyond the real engine (faults on demand) lies below `/sim/` and in `--sim-…` arguments. It never belongs into the product's package.
"""
