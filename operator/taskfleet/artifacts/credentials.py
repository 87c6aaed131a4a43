"""Credentials for registries, from the entries of the Secret that is mounted into the agent.

Entries are read at each use: they come, change and go without a restart. Each is bound to the hosts that it names; what it holds is given out for those only,
and never becomes part of a message.
"""

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskfleet.artifacts.errors import CredentialsMissing

# As Kubernetes allows keys of a Secret, less what would leave the folder.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,252}")
MAX_BYTES = 1024 * 1024  # of a Secret

# Docker Hub goes by several names, and its tokens come from another host. Every other registry is its own host.
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "auth.docker.io"})


@dataclass(frozen=True, slots=True)
class Login:
    """User name and password of one host."""

    username: str
    password: str = field(repr=False)

    def basic(self) -> str:
        """The value of an `Authorization` header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class RegistryCredentials:
    """The logins of one dockerconfigjson, by host."""

    logins: dict[str, Login] = field(default_factory=dict, repr=False)

    def for_host(self, host: str) -> Login | None:
        """The login for a host with its port, if there is one. Never that of another host."""
        return self.logins.get(_canonical(host))


def read(directory: Path, key: str | None, *, host: str) -> RegistryCredentials:
    """The credentials of entry `key`, which must have some for `host`; none where no key is given. Raises CredentialsMissing."""
    if key is None:
        return RegistryCredentials()
    try:
        if not _KEY.fullmatch(key):
            raise FileNotFoundError
        with (directory / key).open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError:
        raise CredentialsMissing(f"the Secret taskfleet-credentials has no entry {key!r}") from None
    credentials = _parse(text, key)
    if credentials.for_host(host) is None:
        raise CredentialsMissing(f"entry {key!r} of the Secret taskfleet-credentials has no login for {host}")
    return credentials


def _parse(text: bytes, key: str) -> RegistryCredentials:
    # `from None`: a parser's message quotes what it read.
    try:
        content = json.loads(text) if len(text) <= MAX_BYTES else None
        auths = content["auths"] if isinstance(content, dict) else None
    except (ValueError, KeyError, RecursionError):
        auths = None
    if not isinstance(auths, dict):
        raise CredentialsMissing(f"entry {key!r} of the Secret taskfleet-credentials is no dockerconfigjson") from None
    logins = {_canonical(host): login for host, entry in auths.items() if (login := _login(entry)) is not None}
    return RegistryCredentials(logins)


def _login(entry: Any) -> Login | None:
    if not isinstance(entry, dict):
        return None
    username, password = entry.get("username"), entry.get("password")
    if isinstance(username, str) and isinstance(password, str) and username:
        return Login(username, password)
    try:
        name, separator, secret = base64.b64decode(str(entry.get("auth", "")), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Login(name, secret) if separator and name else None


def _canonical(host: str) -> str:
    """Keys of a dockerconfigjson may be URLs, as Docker Hub's is."""
    bare = host.partition("://")[2] if "://" in host else host
    bare = bare.partition("/")[0].lower()
    return "docker.io" if bare in _DOCKER_HUB else bare
