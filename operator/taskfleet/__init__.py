"""taskfleet: a Kubernetes operator for fleets of task models."""

__version__ = "0.1.0"
