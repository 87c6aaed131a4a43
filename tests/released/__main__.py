"""`python -m tests.released`: keeps this checkout as the last release, in place of the one before. See 'Releasing' in CONTRIBUTING.md."""

import gzip
import io
import shutil
import sys
import tarfile
from pathlib import Path

import yaml

from tests.cluster.local.images import LEFT_OUT, PRODUCT
from tests.cluster.local.instance import REPOSITORY
from tests.released.last import FOLDER, Release
from tests.released.pools import record

CHART = REPOSITORY / "charts/taskfleet"
VALUES = REPOSITORY / "tests/cluster/manifests/values.yaml"


def main() -> int:
    version = str(yaml.safe_load((CHART / "Chart.yaml").read_text())["version"])
    for earlier in FOLDER.iterdir():
        if (earlier / "chart").is_dir():
            shutil.rmtree(earlier)
    release = Release(version)
    shutil.copytree(CHART, release.chart, ignore=LEFT_OUT)
    shutil.copy2(VALUES, release.values)
    release.pools_file.write_text(yaml.safe_dump(record(), sort_keys=False, width=140))
    release.source.write_bytes(archive(REPOSITORY, (*PRODUCT.paths, str(PRODUCT.containerfile.relative_to(REPOSITORY)))))
    print(f"kept {version} in {release.folder.relative_to(REPOSITORY)}")
    return 0


def archive(root: Path, paths: tuple[str, ...]) -> bytes:
    """A compressed tar of some paths below `root`; the same content gives the same bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(file for name in paths for file in _files(root / name)):
            entry = tarfile.TarInfo(str(path.relative_to(root)))
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as stream:
                tar.addfile(entry, stream)
    return gzip.compress(content.getvalue(), mtime=0)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = (one for one in path.rglob("*") if one.is_file())
    return [one for one in found if not LEFT_OUT(str(one.parent), list(one.relative_to(path).parts))]


if __name__ == "__main__":
    sys.exit(main())
