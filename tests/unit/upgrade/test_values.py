"""Values that somebody set for the last release's chart still mean something to this one: Helm would refuse the upgrade, or ignore the wish."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import yaml

from tests.cluster.local.instance import REPOSITORY
from tests.released.last import last_release

CHART = REPOSITORY / "charts/taskfleet"
RELEASED: dict[str, Any] = yaml.safe_load((last_release().chart / "values.yaml").read_text())
PRESENT: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())


def paths(values: Any, path: str = "") -> Iterator[str]:
    if isinstance(values, dict):
        for name, part in values.items():
            here = f"{path}.{name}".removeprefix(".")
            yield here
            yield from paths(part, here)


def test_the_last_releases_values_follow_the_present_schema() -> None:
    """So `--reuse-values` and everybody's own files do, too."""
    jsonschema.Draft7Validator(SCHEMA).validate(RELEASED)


def test_no_value_is_gone_or_renamed() -> None:
    gone = sorted(set(paths(RELEASED)) - set(paths(PRESENT)))
    assert not gone, f"{gone} of {last_release().version}: keep the old name working, and say in its comment which one replaces it"
