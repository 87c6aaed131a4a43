"""How we talk to one registry: oras for the protocol, our own rules for what is sent where.

oras would read the user's Docker configuration, follow redirects and retry with sleeps. Here credentials come from one given place and go to their own host only, a
redirect is followed without them, everything has a time limit, and whoever asked decides on a retry.
"""

import json as json_module
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import oras.container
import oras.provider
import requests
import urllib3

from taskfleet.artifacts.access import TimeLimit
from taskfleet.artifacts.credentials import RegistryCredentials
from taskfleet.artifacts.errors import ArtifactError, ArtifactNotFound, CredentialsMissing, SourceUnavailable
from taskfleet.artifacts.source import OciSource

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0  # between two pieces of an answer, not for all of it
MAX_REDIRECTS = 3
MAX_TOKEN_BYTES = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHALLENGE = re.compile(r'([a-zA-Z]+)="([^"]*)"')


class Registry(oras.provider.Registry):  # type: ignore[misc]  # oras ships no types
    """One conversation with one registry, used by one thread."""

    def __init__(
        self,
        source: OciSource,
        *,
        insecure: bool,
        credentials: RegistryCredentials,
        time: TimeLimit,
    ) -> None:
        api_host = "registry-1.docker.io" if source.host == "docker.io" else source.host
        super().__init__(hostname=api_host, insecure=insecure)
        self._api = (self.prefix, api_host)
        self._source = source
        self._credentials = credentials
        self._time = time
        self._authorization: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def container(self, reference: str) -> oras.container.Container:
        """The name that oras has for a tag or digest of the repository, put together from parts: its parser takes some hosts for repositories."""
        container = oras.container.Container("x", registry=self._api[1])
        namespace, _, repository = self._source.repository.rpartition("/")
        container.namespace, container.repository = namespace, repository
        container.tag, container.digest = (None, reference) if ":" in reference else (reference, None)
        return container

    def do_request(  # noqa: PLR0917  (oras' signature)  # the one method through which oras reaches the network
        self,
        url: str,
        method: str = "GET",
        data: Any = None,
        headers: dict[str, str] | None = None,
        json: Any = None,
        stream: bool = False,  # noqa: FBT001, FBT002
    ) -> requests.Response:
        """Raises SourceUnavailable, ArtifactNotFound (404) and CredentialsMissing; any other answer is returned."""
        response = self._send(url, method, data, headers, json, stream=stream)
        if response.status_code == 401 and self._is_registry(url):
            self._authorization = self._authenticate(response)
            response = self._send(url, method, data, headers, json, stream=stream)
        trouble = self._trouble(response.status_code, url, method)
        if trouble is not None:
            response.close()
            raise trouble
        return response

    def _trouble(self, status: int, url: str, method: str) -> ArtifactError | None:
        if status in {401, 403}:
            return CredentialsMissing(self._refusal())
        if status == 404 and method == "GET":  # HEAD is how oras asks whether it has to upload
            return ArtifactNotFound(f"{self._source} has no {_last_part(url)}")
        if status >= 500 or status == 429:
            return SourceUnavailable(f"{self._api[1]} answered HTTP {status}")
        return None

    def body(self, response: requests.Response, *, limit: int) -> Iterator[bytes]:
        """The raw body in pieces, at most `limit` bytes and one piece more. Raises SourceUnavailable when it breaks off or takes too long."""
        received = 0
        with told_as_unavailable(self._api[1]), response:
            # Raw: a body that a server claims to have compressed would not be what the digest is about, nor what the limit is about.
            for piece in response.raw.stream(256 * 1024, decode_content=False):
                self._remaining()
                received += len(piece)
                yield piece
                if received > limit:
                    return

    def _send(self, url: str, method: str, data: Any, headers: dict[str, str] | None, json: Any, *, stream: bool) -> requests.Response:
        for _ in range(MAX_REDIRECTS + 1):
            sent = {**(headers or {}), "Accept-Encoding": "identity"}
            if self._authorization and self._is_registry(url):
                sent["Authorization"] = self._authorization
            with told_as_unavailable(urlsplit(url).netloc):
                response: requests.Response = self.session.request(
                    method,
                    url,
                    data=data,
                    json=json,
                    headers=sent,
                    stream=stream,
                    allow_redirects=False,
                    timeout=(min(CONNECT_SECONDS, self._remaining()), min(READ_SECONDS, self._remaining())),
                    auth=_keep,
                )
            if response.status_code not in _REDIRECTS or method not in {"GET", "HEAD"}:
                return response
            url = self._redirected(url, response)
        raise SourceUnavailable(f"{self._api[1]} redirects too often")

    def _redirected(self, url: str, response: requests.Response) -> str:
        response.close()
        target = urljoin(url, response.headers.get("Location", ""))
        # Only a registry that is asked over plain http itself may send us to plain http.
        if urlsplit(target).scheme not in {"https", self._api[0]}:
            raise SourceUnavailable(f"{self._api[1]} redirects to {urlsplit(target).scheme or 'nowhere'}://, which is not followed")
        return target

    def _authenticate(self, response: requests.Response) -> str:
        """An `Authorization` value for this registry, by its challenge (OCI distribution: Bearer or Basic)."""
        response.close()
        challenge = response.headers.get("WWW-Authenticate", "")
        kind = challenge.partition(" ")[0].lower()
        login = self._credentials.for_host(self._source.host)
        if kind == "basic" and login:
            return login.basic()
        parameters = dict(_CHALLENGE.findall(challenge))
        if kind != "bearer" or not parameters.get("realm"):
            raise CredentialsMissing(self._refusal())
        return "Bearer " + self._token(parameters)

    def _token(self, parameters: dict[str, str]) -> str:
        realm = urlsplit(parameters["realm"])
        if realm.scheme != "https" and (realm.scheme, realm.netloc) != self._api:
            raise SourceUnavailable(f"{self._api[1]} wants its tokens fetched from {realm.scheme}://{realm.netloc}, which is not safe")
        # The token service has a login only if the entry names its host too: a registry can't have another host's credentials sent to it.
        login = self._credentials.for_host(realm.netloc)
        with told_as_unavailable(realm.netloc):
            response = self.session.get(
                parameters["realm"],
                params={key: parameters[key] for key in ("service", "scope") if key in parameters},
                headers={"Authorization": login.basic()} if login else {},
                allow_redirects=False,
                timeout=(min(CONNECT_SECONDS, self._remaining()), min(READ_SECONDS, self._remaining())),
                auth=_keep,
                stream=True,
            )
            with response:
                body = response.raw.read(MAX_TOKEN_BYTES, decode_content=True)
        if response.status_code != 200:
            raise CredentialsMissing(self._refusal())
        try:
            answer = json_module.loads(body)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise SourceUnavailable(f"{realm.netloc} answered without a token")
        return token

    def _refusal(self) -> str:
        if self._credentials.for_host(self._source.host):
            return f"{self._api[1]} refuses the login that credentialsKey names for {self._source}"
        return f"{self._api[1]} asks for a login for {self._source}: set credentialsKey"

    def _is_registry(self, url: str) -> bool:
        parts = urlsplit(url)
        return (parts.scheme, parts.netloc) == self._api

    def _remaining(self) -> float:
        return self._time.remaining(self._api[1])


@contextmanager
def told_as_unavailable(host: str) -> Iterator[None]:
    """Whatever the network layers raise, as SourceUnavailable."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise SourceUnavailable(f"{host} can't be read: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """The innermost error's words: the outer ones repeat URLs, which may carry signatures."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {error}"[:200]


def _keep(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Stands in for authentication, or requests would look for the host in a .netrc."""
    return request


def _last_part(url: str) -> str:
    return urlsplit(url).path.rsplit("/", 1)[-1]
