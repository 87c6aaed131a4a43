"""Credentials for sources, from the entries of the Secret that is mounted into the agent.

An entry is JSON in one of these forms, each with the hosts that it is for (with their port, where it is not the usual one):

    {"auths": {"registry.example": {"username": "u", "password": "p"}}}          a dockerconfigjson
    {"host": "huggingface.co", "token": "t"}                                     a bearer token
    {"hosts": ["models.example:8443"], "username": "u", "password": "p"}         a login

Where an entry says `endpoint` (a URL), that is its host: such entries are for hubs and object stores too (`store_credentials`).
Entries are read at each use: they come, change and go without a restart. What one holds is given out for its own hosts only, and never becomes part of a message.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskfleet.artifacts.errors import CredentialsMissing

# As Kubernetes allows keys of a Secret, less what would leave the folder.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,252}")
# What may stand in a header, or in a signature.
_TEXT = re.compile(r"[\x20-\x7e]{1,16384}")
_WORD = re.compile(r"[\x21-\x7e]{1,16384}")
MAX_BYTES = 1024 * 1024  # of a Secret
MAX_HOSTS = 64

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
class BearerToken:
    """A token of one host."""

    token: str = field(repr=False)

    def bearer(self) -> str:
        """The value of an `Authorization` header."""
        return f"Bearer {self.token}"


Secret = Login | BearerToken


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one entry holds, by host."""

    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)

    def for_host(self, host: str) -> Secret | None:
        """What there is for a host with its port. Never that of another host."""
        return self.secrets.get(canonical(host))

    def login(self, host: str) -> Login | None:
        """The host's login, if it has one."""
        secret = self.for_host(host)
        return secret if isinstance(secret, Login) else None

    def headers(self, host: str) -> Mapping[str, str]:
        """What proves to the host, over HTTP, who asks."""
        secret = self.for_host(host)
        if isinstance(secret, Login):
            return {"Authorization": secret.basic()}
        return {"Authorization": secret.bearer()} if isinstance(secret, BearerToken) else {}


def read(directory: Path, key: str | None, *, host: str) -> Credentials:
    """The credentials of entry `key`, which must have some for `host`; none where no key is given. Raises CredentialsMissing."""
    if key is None:
        return Credentials()
    found = entry(directory, key)
    if found.for_host(host) is None:
        raise CredentialsMissing(f"entry {key!r} of the Secret taskfleet-credentials has nothing for {host}")
    return found


def read_entry(directory: Path, key: str) -> bytes:
    """The bytes of an entry, one more than MAX_BYTES at most. Raises CredentialsMissing."""
    try:
        if not _KEY.fullmatch(key):
            raise FileNotFoundError
        with (directory / key).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError:
        raise CredentialsMissing(f"the Secret taskfleet-credentials has no entry {key!r}") from None


def entry(directory: Path, key: str) -> Credentials:
    """All that entry `key` holds. Raises CredentialsMissing where there is no such entry, or it has none of the forms."""
    text = read_entry(directory, key)
    try:
        # `from None`: a parser's message quotes what it read.
        content = json.loads(text) if len(text) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _wrong(key, "is no JSON object")
    return _docker_config(content["auths"], key) if "auths" in content else _bound(content, key)


def canonical(host: str) -> str:
    """One way to write a host. Keys of a dockerconfigjson may be URLs, as Docker Hub's is."""
    bare = host.partition("://")[2] if "://" in host else host
    bare = bare.partition("/")[0].lower().removesuffix(":443")
    return "docker.io" if bare in _DOCKER_HUB else bare


def _docker_config(auths: Any, key: str) -> Credentials:
    if not isinstance(auths, dict):
        raise _wrong(key, "is no dockerconfigjson: its auths are no object")
    return Credentials({canonical(host): login for host, found in auths.items() if (login := _docker_login(found)) is not None})


def _docker_login(found: Any) -> Login | None:
    if not isinstance(found, dict):
        return None
    username, password = found.get("username"), found.get("password")
    if isinstance(username, str) and isinstance(password, str) and _is(_TEXT, username) and _is(_TEXT, password):
        return Login(username, password)
    try:
        name, separator, secret = base64.b64decode(str(found.get("auth", "")), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return Login(name, secret) if separator and name else None


def _bound(content: dict[str, Any], key: str) -> Credentials:
    hosts = next(([content[name]] for name in ("host", "endpoint") if name in content), content.get("hosts"))
    if not isinstance(hosts, list) or not 0 < len(hosts) <= MAX_HOSTS or not all(_is(_WORD, host) and "*" not in host for host in hosts):
        raise _wrong(key, 'names no host: it needs "host", "hosts" or "endpoint", or the "auths" of a dockerconfigjson')
    return Credentials(dict.fromkeys(map(canonical, hosts), _secret(content, key)))


def _secret(content: dict[str, Any], key: str) -> Secret:
    if _is(_WORD, content.get("token")):
        return BearerToken(content["token"])
    if _is(_TEXT, content.get("username")) and _is(_TEXT, content.get("password")):
        return Login(content["username"], content["password"])
    raise _wrong(key, "has neither token, nor username and password")


def _is(form: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None


def _wrong(key: str, why: str) -> CredentialsMissing:
    return CredentialsMissing(f"entry {key!r} of the Secret taskfleet-credentials {why}")
