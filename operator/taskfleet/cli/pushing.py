"""`taskfleet push`: verifies an adapter's folder as an agent would, pushes it, and prints what to paste into the TaskModel."""

import os
import sys
from pathlib import Path

import yaml

from taskfleet.artifacts import base_model, filenames, lora
from taskfleet.artifacts.base_model import UNKNOWN_BASE
from taskfleet.artifacts.errors import ArtifactError, ArtifactInvalid, CredentialsMissing
from taskfleet.artifacts.push import push
from taskfleet.artifacts.source import OciSource, check_tag, parse
from taskfleet.cli.docker_config import logins

REFUSED, UNUSABLE = 1, 2


def push_adapter(directory: Path, reference: str, *, base: Path | None, max_rank: int, insecure: bool) -> int:
    """0 pushed, 1 the folder is no adapter that can be served, 2 wrong reference or the registry doesn't take it."""
    try:
        source, tag = _parsed(reference)
    except ArtifactError as error:
        return _told(error, UNUSABLE)
    try:
        verify(directory, base=base, max_rank=max_rank)
    except ArtifactError as error:
        return _told(error, REFUSED)
    try:
        digest = push(directory, f"{source}:{tag}", insecure=insecure, credentials=logins(os.environ, source.host))
    except CredentialsMissing as error:
        return _told(f"{error}; log in first: docker login {source.host}, or oras login {source.host}", UNUSABLE)
    except ArtifactError as error:
        return _told(error, UNUSABLE)
    print(yaml.safe_dump({"adapter": {"source": str(source), "version": tag, "digest": digest}}, sort_keys=False), end="")
    return 0


def verify(directory: Path, *, base: Path | None, max_rank: int) -> None:
    """As an agent does before it loads the adapter; without a base, as far as the adapter alone shows. Raises ArtifactInvalid."""
    if not directory.is_dir():
        raise ArtifactInvalid(f"{directory} is no folder")
    for path in sorted(directory.iterdir()):
        if not path.name.startswith("."):  # those are not pushed
            filenames.check_name(path.name)
    lora.verify(directory, base=base_model.verify(base) if base is not None else UNKNOWN_BASE, max_rank=max_rank)


def _parsed(reference: str) -> tuple[OciSource, str]:
    repository, separator, tag = reference.removeprefix("oci://").rpartition(":")
    if not separator or "/" in tag:
        raise ArtifactInvalid(f"reference {reference!r} has no version: HOST/REPOSITORY:VERSION")
    return parse(f"oci://{repository}"), check_tag(tag)


def _told(error: object, code: int) -> int:
    print(f"taskfleet: {error}", file=sys.stderr)
    return code
