"""The last release, as far as an upgrade from it can be tested: kept in the repository, because a checkout may have no history.

`<version>/chart` is its Helm chart with its CustomResourceDefinitions, `<version>/values.yaml` what tests set of its values, `<version>/pools.yaml` what its operator
made of some objects, `<version>/source.tar.gz` what its image is built from.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Release:
    """A release's files."""

    version: str

    @property
    def folder(self) -> Path:
        return FOLDER / self.version

    @property
    def chart(self) -> Path:
        return self.folder / "chart"

    @property
    def values(self) -> Path:
        """The values that tests installed its chart with."""
        return self.folder / "values.yaml"

    @property
    def source(self) -> Path:
        """A compressed tar of what the image is built from, the Containerfile with it."""
        return self.folder / "source.tar.gz"

    @property
    def pools_file(self) -> Path:
        return self.folder / "pools.yaml"

    def definitions(self) -> dict[str, dict[str, Any]]:
        """Its CustomResourceDefinitions by name."""
        return definitions_in(self.chart / "files/crds")

    def pools(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.pools_file.read_text())
        return found


def definitions_in(folder: Path) -> dict[str, dict[str, Any]]:
    """The CustomResourceDefinitions of a folder by name."""
    bodies = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]
    return {body["metadata"]["name"]: body for body in bodies}


def last_release() -> Release:
    """The one that is kept. Raises FileNotFoundError where there is none, for no test of upgrades may pass by having nothing to compare with."""
    kept = sorted(path.name for path in FOLDER.iterdir() if (path / "chart").is_dir())
    if len(kept) != 1:
        raise FileNotFoundError(f"{FOLDER} keeps {kept or 'no release'}, and must keep exactly one: see 'Releasing' in CONTRIBUTING.md")
    return Release(kept[0])
