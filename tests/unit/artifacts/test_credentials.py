"""Entries of the Secret, and where what they hold is sent: to its own host only."""

import base64
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from taskfleet.artifacts import credentials, oci
from taskfleet.artifacts.access import Access
from taskfleet.artifacts.addresses import parse_networks
from taskfleet.artifacts.errors import ArtifactError, CredentialsMissing, SourceUnavailable
from tests.unit.artifacts.local_server import server

SECRET = "wholly-secret"


def entry(folder: Path, *hosts: str) -> Path:
    auths = {host: {"username": "robot", "password": SECRET} for host in hosts}
    (folder / "key").write_text(json.dumps({"auths": auths}))
    return folder


def resolve(host: str, folder: Path, *insecure: str) -> str:
    access = Access(
        credentials_directory=folder, insecure_hosts=frozenset({host, *insecure}), allowed_networks=parse_networks("127.0.0.0/8")
    )
    return oci.resolve(f"oci://{host}/x", "v1", None, key="key", access=access)


def test_redirect_is_followed_without_credentials(tmp_path: Path) -> None:
    manifest = json.dumps({"layers": []}).encode()
    with server(lambda _: (200, {}, manifest)) as elsewhere:

        def first(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
            if request.headers.get("Authorization") is None:
                return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
            return 307, {"Location": f"http://{elsewhere.host}/blob"}, b""

        with server(first) as registry, pytest.raises(ArtifactError, match="empty"):
            resolve(registry.host, entry(tmp_path, registry.host, elsewhere.host))
    assert registry.seen[-1][1] is not None
    assert elsewhere.seen == [("/blob", None)]


def test_token_service_elsewhere_gets_only_a_login_of_its_own(tmp_path: Path) -> None:
    # The realm is plain http here, which is only followed to the registry's own host: so the registry can't have a token fetched, nor a login sent, from elsewhere.
    with server(lambda _: (200, {}, b'{"token": "t"}')) as elsewhere:
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{elsewhere.host}/token",service="x"'}
        with server(lambda _: (401, challenge, b"")) as registry, pytest.raises(SourceUnavailable, match="not safe"):
            resolve(registry.host, entry(tmp_path, registry.host), elsewhere.host)
    assert elsewhere.seen == []


def test_token_of_the_registry_itself_is_fetched_with_the_login_and_used(tmp_path: Path) -> None:
    def answer(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        if request.path.startswith("/token"):
            return 200, {}, b'{"token": "fetched"}'
        if request.headers.get("Authorization") != "Bearer fetched":
            realm = f'Bearer realm="http://{request.headers["Host"]}/token",service="me",scope="repository:x:pull"'
            return 401, {"WWW-Authenticate": realm}, b""
        return 404, {}, b""

    with server(answer) as registry, pytest.raises(ArtifactError, match="has no v1"):
        resolve(registry.host, entry(tmp_path, registry.host))
    basic = "Basic " + base64.b64encode(f"robot:{SECRET}".encode()).decode()
    assert registry.seen[1] == ("/token?service=me&scope=repository%3Ax%3Apull", basic)


def test_endless_redirects_and_redirects_to_other_schemes_end(tmp_path: Path) -> None:
    with server(lambda request: (302, {"Location": request.path}, b"")) as registry, pytest.raises(SourceUnavailable, match="too often"):
        resolve(registry.host, entry(tmp_path, registry.host))
    with (
        server(lambda _: (302, {"Location": "file:///etc/passwd"}, b"")) as registry,
        pytest.raises(SourceUnavailable, match="not followed"),
    ):
        resolve(registry.host, entry(tmp_path, registry.host))


def test_endless_manifest_is_cut_off(tmp_path: Path) -> None:
    with server(lambda _: (200, {}, b" " * 6_000_000)) as registry, pytest.raises(ArtifactError, match="larger than"):
        resolve(registry.host, entry(tmp_path, registry.host))


def test_password_never_shows_in_what_is_said(tmp_path: Path) -> None:
    with server(lambda _: (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")) as registry, pytest.raises(CredentialsMissing) as refused:
        resolve(registry.host, entry(tmp_path, registry.host))
    assert SECRET not in f"{refused.value!r} {credentials.read(tmp_path, 'key', host=registry.host)!r}"


@pytest.mark.parametrize(
    "text",
    [
        "", "no json", "[]", '"text"', "{}", '{"auths": 1}', '{"auths": {"h": 1}}', '{"auths": {"h": {"auth": "!"}}}', "[" * 100_000, " " * 2_000_000,
        '{"token": "wholly-secret"}', '{"host": "", "token": "wholly-secret"}', '{"host": "*", "token": "wholly-secret"}', '{"host": 1, "token": "wholly-secret"}',
        '{"hosts": [], "token": "wholly-secret"}', '{"hosts": "h", "token": "wholly-secret"}', '{"hosts": ["h", 1], "token": "wholly-secret"}',
        '{"host": "*.example", "token": "wholly-secret"}', '{"host": "h"}', '{"host": "h", "token": "wholly-secret\\r\\nX: y"}', '{"host": "h", "token": 1}',
    ],
)  # fmt: skip
def test_entry_of_no_known_form_is_said_so_without_its_content(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(CredentialsMissing, match="entry 'key'") as refusal:
        credentials.read(tmp_path, "key", host="h")
    assert SECRET not in repr(refusal.value)


def test_entry_that_names_no_host_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(json.dumps({"token": SECRET}))
    with pytest.raises(CredentialsMissing, match='names no host: it needs "host"'):
        credentials.read(tmp_path, "key", host="huggingface.co")


@pytest.mark.parametrize(
    ("content", "header"),
    [
        ({"token": SECRET}, f"Bearer {SECRET}"),
        ({"username": "robot", "password": SECRET}, "Basic " + base64.b64encode(f"robot:{SECRET}".encode()).decode()),
    ],
)
def test_entry_is_for_its_own_hosts(tmp_path: Path, content: dict[str, str], header: str) -> None:
    (tmp_path / "one").write_text(json.dumps({"host": "Models.example", **content}))
    (tmp_path / "many").write_text(json.dumps({"hosts": ["a.example:8443", "models.example"], **content}))
    for key in ("one", "many"):
        found = credentials.read(tmp_path, key, host="models.example:443")
        assert found.headers("models.example").get("Authorization") == header
        assert SECRET not in repr(found.for_host("models.example"))
        for other in ("models.example:8443", "evil.models.example", "models.example.evil", "a.example", "example"):
            assert found.for_host(other) is None
            assert found.headers(other) == {}
    with pytest.raises(CredentialsMissing, match=r"has nothing for other\.example"):
        credentials.read(tmp_path, "one", host="other.example")


def test_docker_hub_is_one_host_under_all_its_names(tmp_path: Path) -> None:
    entry(tmp_path, "https://index.docker.io/v1/")
    found = credentials.read(tmp_path, "key", host="docker.io")
    assert found.for_host("auth.docker.io") is not None
    assert found.for_host("evil.docker.io") is None


@pytest.mark.parametrize("key", ["../outside", "a/b", ".hidden", "..data", "", "x" * 300])
def test_key_never_leaves_the_secrets_folder(tmp_path: Path, key: str) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for path in (tmp_path / "outside", secrets / ".hidden"):
        path.write_text(json.dumps({"auths": {"h": {"username": "robot", "password": SECRET}}}))
    with pytest.raises(CredentialsMissing, match="has no entry"):
        credentials.read(secrets, key, host="h")
