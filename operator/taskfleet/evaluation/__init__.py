"""Evaluation: a revision is asked the examples of a golden set, and its answers are scored. What the figures mean is the gate's to say (`planning.gate`)."""
