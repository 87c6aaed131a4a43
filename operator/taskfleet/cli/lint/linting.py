"""Finds the manifests, and prints what is wrong with them."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from taskfleet.cli.lint.checking import Finding, check, is_ours
from taskfleet.cli.lint.golden_sets import config_maps
from taskfleet.cli.lint.manifests import Manifest, UnreadableError, read
from taskfleet.cli.target import Output

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
STANDARD_INPUT = "-"


def lint(places: list[str], *, output: Output) -> int:
    """0 where nothing is wrong, 1 with findings, 2 where a file can't be read."""
    manifests: list[Manifest] = []
    findings: list[Finding] = []
    try:
        for source, text in _texts(places):
            try:
                manifests += read(source, text)
            except UnreadableError as error:
                findings.append(Finding(source=source, line=error.line, object="", path="", message=error.message))
    except (OSError, UnicodeDecodeError) as error:
        print(f"taskfleet: {error}", file=sys.stderr)
        return 2
    ours = [manifest for manifest in manifests if is_ours(manifest)]
    known = config_maps(manifests)
    findings += [finding for manifest in ours for finding in check(manifest, known)]
    objects = len(ours)
    if output is Output.JSON:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(finding)
        print(
            f"{len(findings)} finding{'s' * (len(findings) != 1)} in {objects} object{'s' * (objects != 1)} of taskfleet", file=sys.stderr
        )
    return 1 if findings else 0


def _texts(places: list[str]) -> Iterator[tuple[str, str]]:
    for place in places:
        if place == STANDARD_INPUT:
            yield "<stdin>", sys.stdin.read()
            continue
        path = Path(place)
        for file in sorted(one for one in path.rglob("*") if one.suffix in _SUFFIXES and one.is_file()) if path.is_dir() else [path]:
            yield str(file), file.read_text(encoding="utf-8")
