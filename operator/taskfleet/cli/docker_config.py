"""Logins of a person's machine, where `docker login` and `oras login` put them: config.json in $DOCKER_CONFIG or ~/.docker, and the helpers that it names."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskfleet.artifacts import credentials
from taskfleet.artifacts.credentials import Credentials, Login
from taskfleet.artifacts.errors import CredentialsMissing

_HELPER_SECONDS = 60.0  # some ask their owner for a passphrase
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_IDENTITY_TOKEN = "<token>"  # noqa: S105  what a helper says instead of a user name


def logins(environment: Mapping[str, str], host: str) -> Credentials:
    """What the machine has for a registry; nothing where it has no such file. Raises CredentialsMissing where file or helper is broken."""
    folder = Path(environment["DOCKER_CONFIG"]) if environment.get("DOCKER_CONFIG") else Path.home() / ".docker"
    path = folder / "config.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Credentials()
    except (OSError, ValueError):
        raise CredentialsMissing(f"{path} can't be read as JSON") from None
    if not isinstance(content, dict):
        raise CredentialsMissing(f"{path} is no JSON object")
    if helper := _helper(content, host):
        return _of_helper(helper, host)
    return credentials.entry(folder, path.name) if "auths" in content else Credentials()


def _helper(content: dict[str, Any], host: str) -> str | None:
    helpers = content.get("credHelpers")
    helper = (helpers.get(host) if isinstance(helpers, dict) else None) or content.get("credsStore")
    return helper if isinstance(helper, str) and _HELPER.fullmatch(helper) else None


def _of_helper(helper: str, host: str) -> Credentials:
    """By Docker's protocol of credential helpers: the server's name on standard input, JSON on standard output."""
    program = f"docker-credential-{helper}"
    server = _DOCKER_HUB_KEY if credentials.canonical(host) == credentials.canonical(_DOCKER_HUB_KEY) else host
    try:
        done = subprocess.run([program, "get"], input=server, capture_output=True, text=True, timeout=_HELPER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CredentialsMissing(f"{program}, which the Docker configuration names, can't be run: {type(error).__name__}") from None
    if done.returncode != 0:
        return Credentials()  # it has none for this server
    try:
        found = json.loads(done.stdout)
        username, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, KeyError, TypeError):
        raise CredentialsMissing(f"{program} answered with something else than a login") from None
    if username == _IDENTITY_TOKEN:
        raise CredentialsMissing(f"{program} has an identity token for {host}, which is not supported; log in with user name and password")
    return Credentials({credentials.canonical(host): Login(username, secret)})
