"""How we talk to one registry: oras for the protocol, our own transport for what is sent where.

oras would read the user's Docker configuration, follow redirects and retry with sleeps. Here credentials come from one given place and go to their own host only, a
redirect is followed without them, everything has a time limit, and whoever asked decides on a retry.
"""

import json as json_module
import re
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import oras.container
import oras.provider

from taskfleet.artifacts.access import Access, TimeLimit
from taskfleet.artifacts.credentials import BearerToken, Credentials, Login
from taskfleet.artifacts.errors import ArtifactError, ArtifactNotFound, CredentialsMissing, SourceUnavailable
from taskfleet.artifacts.source import OciSource
from taskfleet.artifacts.transport import Answer, Origin, Transport

MAX_TOKEN_BYTES = 64 * 1024
_CHALLENGE = re.compile(r'([a-zA-Z]+)="([^"]*)"')


class Registry(oras.provider.Registry):  # type: ignore[misc]  # oras ships no types
    """One conversation with one registry, used by one thread."""

    def __init__(self, source: OciSource, *, access: Access, credentials: Credentials, time: TimeLimit) -> None:
        api_host = "registry-1.docker.io" if source.host == "docker.io" else source.host
        super().__init__(hostname=api_host, insecure=source.host in access.insecure_hosts)
        self._origin = Origin.of(f"{self.prefix}://{api_host}")
        self._transport = Transport(access, time)
        self.time = time
        self._source = source
        self._credentials = credentials
        self._authorization: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()
        self.session.close()

    def container(self, reference: str) -> oras.container.Container:
        """The name that oras has for a tag or digest of the repository, put together from parts: its parser takes some hosts for repositories."""
        container = oras.container.Container("x", registry=self.hostname)
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
        json: Any = None,  # noqa: ARG002  (nothing that we use sends any)
        stream: bool = False,  # noqa: FBT001, FBT002
    ) -> Answer:
        """Raises SourceUnavailable, SourceNotAllowed, ArtifactNotFound (404) and CredentialsMissing; any other answer is returned."""
        answer = self._send(url, method, data, headers)
        if answer.status_code == 401 and Origin.of(url) == self._origin:
            self._authorization = self._authenticate(answer)
            answer = self._send(url, method, data, headers)
        trouble = self._trouble(answer.status_code, url, method)
        if trouble is not None or not stream:
            answer.close()
        if trouble is not None:
            raise trouble
        return answer

    def _trouble(self, status: int, url: str, method: str) -> ArtifactError | None:
        if status in {401, 403}:
            return CredentialsMissing(self._refusal())
        if status == 404 and method == "GET":  # HEAD is how oras asks whether it has to upload
            return ArtifactNotFound(f"{self._source} has no {_last_part(url)}")
        if status >= 500 or status == 429:
            return SourceUnavailable(f"{self.hostname} answered HTTP {status}")
        return None

    def _send(self, url: str, method: str, data: Any, headers: dict[str, str] | None) -> Answer:
        known = self._authorization is not None and Origin.of(url) == self._origin
        credentials = {"Authorization": self._authorization} if known and self._authorization else {}
        return self._transport.request(method, url, headers=headers, credentials=credentials, body=data)

    def _authenticate(self, answer: Answer) -> str:
        """An `Authorization` value for this registry, by its challenge (OCI distribution: Bearer or Basic)."""
        answer.close()
        challenge = answer.headers.get("WWW-Authenticate", "")
        kind = challenge.partition(" ")[0].lower()
        secret = self._credentials.for_host(self._source.host)
        if isinstance(secret, BearerToken):
            return secret.bearer()
        if kind == "basic" and isinstance(secret, Login):
            return secret.basic()
        parameters = dict(_CHALLENGE.findall(challenge))
        if kind != "bearer" or not parameters.get("realm"):
            raise CredentialsMissing(self._refusal())
        return "Bearer " + self._token(parameters)

    def _token(self, parameters: dict[str, str]) -> str:
        realm = Origin.of(parameters["realm"])
        if realm.scheme != "https" and realm != self._origin:
            raise SourceUnavailable(f"{self.hostname} wants its tokens fetched from {realm.scheme}://{realm}, which is not safe")
        # The token service has a login only if the entry names its host too: a registry can't have another host's credentials sent to it.
        login = self._credentials.login(str(realm))
        query = urlencode([(key, parameters[key]) for key in ("service", "scope") if key in parameters])
        url = parameters["realm"] + ("&" if "?" in parameters["realm"] else "?") + query
        with self._transport.get(url, credentials={"Authorization": login.basic()} if login else {}) as answer:
            body = answer.read(limit=MAX_TOKEN_BYTES)
        if answer.status_code != 200:
            raise CredentialsMissing(self._refusal())
        try:
            content = json_module.loads(body)
            token = content.get("token") or content.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise SourceUnavailable(f"{realm} answered without a token")
        return token

    def _refusal(self) -> str:
        if self._credentials.for_host(self._source.host):
            return f"{self.hostname} refuses the login that credentialsKey names for {self._source}"
        return f"{self.hostname} asks for a login for {self._source}: set credentialsKey"


def _last_part(url: str) -> str:
    return urlsplit(url).path.rsplit("/", 1)[-1]
