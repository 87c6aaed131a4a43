"""`taskfleet rollout`: how a rollout stands, what happened before, and the verbs by which people steer it."""
