"""Writes what is made from the code: the CustomResourceDefinitions (`crds/`, and the chart's copies), the API reference, and the tables of the troubleshooting page.

`python -m taskfleet.api.generate` writes; with `--check` it writes nothing, prints the differences and fails where there are any. For a checkout of the repository.
"""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from taskfleet.api.crd import DEFINITIONS, custom_resource_definition
from taskfleet.api.reference import reference_page
from taskfleet.api.troubleshooting import PAGE, with_tables
from taskfleet.names import GROUP

REPOSITORY = Path(__file__).resolve().parents[3]
_NOTICE = "# Generated from operator/taskfleet/api by `make generate`; changes belong there.\n"


class _Dumper(yaml.SafeDumper):
    """Writes equal parts out each time: a reader should not have to look for an anchor."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  the name and signature are the library's
        return True


def generated_files(root: Path) -> dict[str, str]:
    """Every generated file: path in the repository → content. Only part of the troubleshooting page is generated; the rest is as it stands below `root`."""
    files = {"docs/reference/api.md": reference_page(), PAGE: with_tables((root / PAGE).read_text())}
    for definition in DEFINITIONS:
        text = _NOTICE + yaml.dump(custom_resource_definition(definition), Dumper=_Dumper, sort_keys=False, width=140, allow_unicode=True)
        for folder in ("crds", "charts/taskfleet/files/crds"):
            files[f"{folder}/{GROUP}_{definition.plural}.yaml"] = text
    return files


def differences(root: Path) -> str:
    """What writing would change, as a unified diff; empty where nothing."""
    lines: list[str] = []
    for name, content in generated_files(root).items():
        path = root / name
        present = path.read_text() if path.exists() else ""
        lines += difflib.unified_diff(present.splitlines(keepends=True), content.splitlines(keepends=True), name, f"{name} (generated)")
    return "".join(lines)


def write(root: Path) -> None:
    for name, content in generated_files(root).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def main(arguments: Sequence[str]) -> int:
    """The process's exit status."""
    parser = argparse.ArgumentParser(
        description="Write the CustomResourceDefinitions, the API reference and the tables of the troubleshooting page."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail where something would change")
    check = parser.parse_args(arguments).check
    try:
        difference = differences(REPOSITORY)
    except ValueError as error:
        sys.stderr.write(f"can't generate: {error}\n")
        return 1
    if not check:
        write(REPOSITORY)
        return 0
    sys.stdout.write(difference)
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
