"""Registries for the tests of artifacts, one of each kind for the whole run."""

from collections.abc import Iterator

import pytest

from tests.unit.artifacts.registry_process import RegistryProcess, running_registry


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with running_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def locked_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with running_registry(tmp_path_factory.mktemp("locked-registry"), login=True) as running:
        yield running
