"""The agent: native sidecar of a pool's pods. It stages the base, brings adapters into the engine and out of it, and is the pod's one open door."""
