"""Entries of the Secret for object stores and hubs: small JSON objects, each good for one endpoint and sent to no other."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator

from taskfleet.api.fields import Model
from taskfleet.artifacts.credentials import canonical, read_entry
from taskfleet.artifacts.errors import CredentialsMissing

HUB_HOST = "huggingface.co"
_ENDPOINT = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:[0-9]{1,5})?")
_TEXT = r"^[\x21-\x7e]+$"  # of what becomes a header

Entry = TypeVar("Entry", bound=Model)


def _is_endpoint(value: str) -> str:
    if not _ENDPOINT.fullmatch(value):
        raise ValueError("is no https:// or http:// with a host, and a port if need be")
    return value


Endpoint = Annotated[str, Field(max_length=300), AfterValidator(_is_endpoint)]


class S3Credentials(Model):
    """An object store. Without endpoint it is Amazon's; without keys the bucket is a public one."""

    endpoint: Endpoint | None = None
    host: Annotated[str | None, Field(max_length=300)] = None
    region: Annotated[str | None, Field(pattern=r"^[a-z0-9-]{1,32}$")] = None
    addressing: Literal["path", "virtual"] | None = None
    access_key_id: Annotated[str | None, Field(max_length=256, pattern=_TEXT, repr=False)] = None
    secret_access_key: Annotated[str | None, Field(max_length=1024, pattern=_TEXT, repr=False)] = None
    session_token: Annotated[str | None, Field(max_length=16_384, pattern=_TEXT, repr=False)] = None

    @model_validator(mode="after")
    def _keys_go_together(self) -> "S3Credentials":
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("accessKeyId and secretAccessKey go together")
        return self

    @model_validator(mode="after")
    def _is_for_its_own_host(self) -> "S3Credentials":
        # Without this, keys of a store that is named by its host alone would go to Amazon.
        if self.host is not None and (self.endpoint is None or canonical(self.endpoint) != canonical(self.host)):
            raise ValueError("names a host that is not its endpoint's: for a store endpoint is enough")
        return self


class HubCredentials(Model):
    """A hub that speaks the Hugging Face hub's API: by its URL, or by its host alone."""

    endpoint: Endpoint | None = None
    host: Annotated[str | None, Field(max_length=300)] = None
    token: Annotated[str | None, Field(max_length=4096, pattern=_TEXT, repr=False)] = None

    @model_validator(mode="after")
    def _is_for_one_hub(self) -> "HubCredentials":
        if self.host is not None:
            _is_endpoint(f"https://{self.host}")
        if (self.endpoint is None) == (self.host is None):
            raise ValueError("names no hub: it needs either endpoint or host")
        return self

    @property
    def url(self) -> str:
        """Where the hub is."""
        return self.endpoint or f"https://{self.host}"


def read_s3(directory: Path, key: str) -> S3Credentials:
    """Raises CredentialsMissing."""
    return _read(S3Credentials, directory, key, what="for an object store (endpoint, region, accessKeyId, secretAccessKey)")


def read_hub(directory: Path, key: str) -> HubCredentials:
    """Raises CredentialsMissing."""
    return _read(HubCredentials, directory, key, what="for a hub (endpoint, token)")


def _read(kind: type[Entry], directory: Path, key: str, *, what: str) -> Entry:
    try:
        return kind.model_validate_json(read_entry(directory, key))
    except ValidationError as error:
        # Without the input: it is secret.
        first: Mapping[str, object] = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) if isinstance(first["loc"], tuple) and first["loc"] else "all of it"
        raise CredentialsMissing(f"entry {key!r} of the Secret taskfleet-credentials is none {what}: {place}: {first['msg']}") from None
