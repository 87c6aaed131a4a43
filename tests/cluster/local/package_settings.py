"""The machine's settings for Python packages, handed to image builds as secrets: an index, a proxy's certificates. Never part of an image."""

import configparser
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .commands import run
from .failures import ClusterError

BUNDLE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# Settings that make sense inside a build. Folders of this machine don't.
CARRIED = {"index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "timeout", "retries"}
BUNDLE_INSIDE = "/run/secrets/ca-bundle"


@contextmanager
def package_secrets() -> Iterator[dict[str, Path]]:
    """Build secrets by their id, as files that exist for the duration of the build."""
    with tempfile.TemporaryDirectory(prefix="taskfleet-secrets-") as scratch:
        settings = configparser.ConfigParser(interpolation=None)
        settings["global"] = _carried_settings()
        secrets: dict[str, Path] = {}
        if bundle := _bundle():
            secrets["ca-bundle"] = bundle
            settings["global"]["cert"] = BUNDLE_INSIDE
        path = Path(scratch) / "pip.conf"
        with path.open("w") as file:
            settings.write(file)
        secrets["pip-settings"] = path
        yield secrets


def _carried_settings() -> dict[str, str]:
    settings = {}
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip is not None:
        try:
            listed = run([pip, "config", "list"], timeout=60)
        except ClusterError:
            # A broken pip on the machine has no settings that we could carry; the environment's follow below.
            listed = ""
        for line in listed.splitlines():
            key, _, value = line.partition("=")
            settings[key.rpartition(".")[2]] = value.strip().strip("'\"")
    for variable, key in (("UV_INDEX_URL", "index-url"), ("UV_DEFAULT_INDEX", "index-url"), ("PIP_INDEX_URL", "index-url")):
        if os.environ.get(variable):
            settings[key] = os.environ[variable]
    return {key: value for key, value in settings.items() if key in CARRIED}


def _bundle() -> Path | None:
    for variable in BUNDLE_VARIABLES:
        value = os.environ.get(variable)
        if value and Path(value).is_file():
            return Path(value)
    return None
