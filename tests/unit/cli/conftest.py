"""The registries of the tests of artifacts."""

from tests.unit.artifacts.conftest import locked_registry, registry

__all__ = ["locked_registry", "registry"]
