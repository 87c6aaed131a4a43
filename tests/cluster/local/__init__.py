"""A real Kubernetes cluster on this machine, by one command and without leaving traces.

Where a Docker engine answers, the cluster is kind's (`kind.py`). Elsewhere Kubernetes' own programs run as processes (`lifecycle.py`) inside
Linux namespaces that belong to one *instance*: its network, mounts and processes live in them and end with them, so that several instances run
side by side and `down` cannot forget anything. Nothing here knows taskfleet itself, except `images.py`, which builds its container images.
"""
