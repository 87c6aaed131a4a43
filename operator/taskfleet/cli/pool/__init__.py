"""`taskfleet pool`: the pods that serve task models, and why there are so many."""
