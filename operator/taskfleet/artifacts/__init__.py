"""Artifacts: adapters and base models as data. Where they come from, whether they may be used, and where a pod keeps them."""
