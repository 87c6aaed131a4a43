"""JSON files of artifacts, read with bounds."""

import json
from pathlib import Path
from typing import Any

from taskfleet.artifacts.errors import ArtifactInvalid

MAX_CONFIG_BYTES = 1024 * 1024
MAX_TABLE_BYTES = 16 * 1024 * 1024  # lists of tokens or shards; those of the largest open models have 9 MB


def read(path: Path, *, max_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """The JSON object in a file. Raises ArtifactInvalid for anything else, and for more bytes than allowed."""
    if path.stat().st_size > max_bytes:
        raise ArtifactInvalid(f"{path.name} is larger than {max_bytes} bytes")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ArtifactInvalid(f"{path.name} is no JSON") from None
    if not isinstance(content, dict):
        raise ArtifactInvalid(f"{path.name} is no JSON object")
    return content
