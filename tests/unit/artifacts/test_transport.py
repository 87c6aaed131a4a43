"""What goes over the network, and what comes back: against servers that mean well, and servers that don't."""

import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path

import pytest

from taskfleet.artifacts import transport as transport_module
from taskfleet.artifacts.access import Access, TimeLimit
from taskfleet.artifacts.addresses import Address, parse_networks
from taskfleet.artifacts.errors import SourceNotAllowed, SourceUnavailable
from taskfleet.artifacts.transport import Transport
from tests.unit.artifacts.certificates import serving, trusting, write_certificate
from tests.unit.artifacts.local_server import Script, raw_server, server

LOOPBACK = "127.0.0.0/8"
SECRET = {"Authorization": "Bearer wholly-secret"}


def access(*hosts: str, allowed: str = LOOPBACK, names: dict[str, list[str]] | None = None, tls: ssl.SSLContext | None = None) -> Access:
    """`hosts` are asked over plain http. `names` says what names resolve to, in turn; all others to the loopback address."""

    def lookup(host: str, _port: int) -> list[Address]:
        known = (names or {}).get(host)
        return [ip_address(known.pop(0) if len(known) > 1 else known[0])] if known else [ip_address("127.0.0.1")]

    return Access(
        credentials_directory=Path("none"),
        insecure_hosts=frozenset(hosts),
        allowed_networks=parse_networks(allowed),
        lookup=lookup,
        tls=tls,
    )


def get(reached: Access, url: str, *, seconds: float = 30.0, credentials: dict[str, str] | None = None, limit: int = 1000) -> bytes:
    with Transport(reached, TimeLimit.of(seconds, reached)) as transport, transport.get(url, credentials=credentials) as answer:
        return answer.read(limit=limit)


def named(host: str, name: str) -> str:
    """The same server under a name."""
    return f"{name}:{host.rpartition(':')[2]}"


def test_server_at_a_closed_address_is_never_connected_to() -> None:
    with server(lambda _: (200, {}, b"open")) as running:
        with pytest.raises(SourceNotAllowed, match="loopback"):
            get(access(running.host, allowed=""), f"http://{running.host}/")
        assert running.seen == []
        assert get(access(running.host), f"http://{running.host}/") == b"open"


def test_plain_http_is_for_named_hosts_only_and_opens_no_address() -> None:
    with server(lambda _: (200, {}, b"")) as running, pytest.raises(SourceUnavailable, match="insecureRegistries"):
        get(access(), f"http://{running.host}/")
    assert running.seen == []


def test_name_is_resolved_once_for_each_connection_and_no_other_address_is_used() -> None:
    """A name that resolves to a public address when it is judged, and to the loopback one a moment later."""
    asked: list[str] = []
    with server(lambda _: (200, {}, b"inside")) as inside:
        name = named(inside.host, "rebinding.example")

        def lookup(host: str, _port: int) -> list[Address]:
            asked.append(host)
            return [ip_address("192.0.2.1" if len(asked) == 1 else "127.0.0.1")]

        reached = Access(
            credentials_directory=Path("none"),
            insecure_hosts=frozenset({name}),
            allowed_networks=parse_networks("192.0.2.0/24"),
            lookup=lookup,
        )
        with pytest.raises((SourceUnavailable, SourceNotAllowed)):
            get(reached, f"http://{name}/", seconds=0.2)
        assert asked == ["rebinding.example"]
        with pytest.raises(SourceNotAllowed, match="loopback"):
            get(reached, f"http://{name}/", seconds=5)
    assert inside.seen == []


def test_each_redirect_is_judged_anew() -> None:
    with server(lambda _: (200, {}, b"metadata")) as inside:
        port = inside.host.rpartition(":")[2]
        targets = {
            f"http://127.0.0.1:{port}/": "loopback",
            f"http://inner.example:{port}/": "private",
            "http://169.254.169.254/latest/meta-data/": "metadata",
            f"http://[::ffff:127.0.0.1]:{port}/": "loopback",
            f"http://2130706433:{port}/": "no host name",
            f"http://0x7f.1:{port}/": "no host name",
            "http://[fe80::1%25eth0]/": "no host name|no URL",
        }
        for target, said in targets.items():
            with server(lambda _, target=target: (302, {"Location": target}, b""), address="127.0.0.2") as outside:  # type: ignore[misc]
                name = named(outside.host, "outside.example")
                names = {"outside.example": ["127.0.0.2"], "inner.example": ["10.1.2.3"], "169.254.169.254": ["169.254.169.254"]}
                names |= {host: [host] for host in ("127.0.0.1", "::ffff:127.0.0.1")}
                # The only open address is the outside server's own.
                reached = access(name, allowed="127.0.0.2/32", names=names)
                with pytest.raises((SourceNotAllowed, SourceUnavailable), match=said):
                    get(reached, f"http://{name}/")
        assert inside.seen == []


def test_credentials_are_sent_to_their_own_origin_and_not_along_a_redirect_that_leads_back() -> None:
    with server(lambda _: (200, {}, b"end")) as elsewhere:

        def first(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
            if request.path == "/file":
                return 307, {"Location": "/moved"}, b""
            if request.path == "/moved":
                return 302, {"Location": f"http://{elsewhere.host}/elsewhere"}, b""
            return 200, {}, b"back"

        with server(first) as own:
            reached = access(own.host, elsewhere.host)
            assert get(reached, f"http://{own.host}/file", credentials=SECRET) == b"end"
            assert own.seen == [("/file", SECRET["Authorization"]), ("/moved", SECRET["Authorization"])]
            assert elsewhere.seen == [("/elsewhere", None)]

            with server(lambda _: (302, {"Location": f"http://{own.host}/back"}, b"")) as mirror:

                def lead_away(_: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
                    return 302, {"Location": f"http://{mirror.host}/"}, b""

                with server(lead_away) as start:
                    assert get(access(start.host), f"http://{start.host}/", credentials=SECRET) == b"back"
            assert own.seen[-1] == ("/back", None)


def test_redirects_end_somewhere() -> None:
    with server(lambda request: (302, {"Location": request.path + "x"}, b"")) as running:
        with pytest.raises(SourceUnavailable, match="too often"):
            get(access(running.host), f"http://{running.host}/")
        assert len(running.seen) == transport_module.MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://x.example/", "gopher://x.example/", "http://user:pass@x.example/", "//", "http://[bad/", ""]
)
def test_redirects_to_what_is_no_web_page_are_not_followed(target: str) -> None:
    with server(lambda _: (302, {"Location": target}, b"")) as running, pytest.raises(SourceUnavailable):
        get(access(running.host), f"http://{running.host}/")


def test_nothing_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("default login robot password secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    with server(lambda _: (200, {"Set-Cookie": "a=b"}, b"")) as proxy, server(lambda _: (200, {"Set-Cookie": "a=b"}, b"own")) as running:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy.host}")
        reached = access(running.host)
        with Transport(reached, TimeLimit.of(30, reached)) as transport:
            for _ in range(2):
                with transport.get(f"http://{running.host}/") as answer:
                    assert answer.read(limit=10) == b"own"
    assert proxy.seen == []
    assert all("cookie" not in headers and "authorization" not in headers for headers in running.headers)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("tls"), names="DNS:models.example")


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    return serving(certificate)


def test_tls_is_for_the_name_though_the_connection_is_to_the_checked_address(certificate: Path, tls: ssl.SSLContext) -> None:
    asked_for: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: asked_for.append(name)
    with (
        server(lambda _: (200, {}, b"private")) as plain,
        server(lambda _: (302, {"Location": f"http://{plain.host}/"}, b""), tls=tls) as running,
    ):
        name = named(running.host, "models.example")
        with pytest.raises(SourceUnavailable, match="plain http"):
            get(access(plain.host, tls=trusting(certificate)), f"https://{name}/")
        assert running.headers[0]["host"] == name
        assert asked_for == ["models.example"]
        with pytest.raises(SourceUnavailable, match=r"(?i)hostname mismatch|not valid for"):
            get(access(tls=trusting(certificate)), f"https://{named(running.host, 'other.example')}/")
        with pytest.raises(SourceUnavailable, match=r"(?i)certificate"):
            get(access(), f"https://{name}/")
    assert plain.seen == []


def head(*lines: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nshort\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: \x00\x01\r\n\r\n",
        head(b"X: " + b"x" * 100_000),
        head(*[b"X-%d: x" % number for number in range(200)]),
    ],
    ids=[
        "nothing",
        "nonsense",
        "cut-off",
        "chunks-cut-off",
        "no-chunk-size",
        "negative-chunk",
        "control-characters",
        "long-header",
        "many-headers",
    ],
)
def test_broken_answers_are_a_source_that_fails(answer: bytes) -> None:
    def say(connection: socket.socket) -> None:
        connection.sendall(answer)

    with raw_server(say) as host, pytest.raises(SourceUnavailable):
        get(access(host), f"http://{host}/")


def drip(first: bytes, drop: bytes) -> tuple[threading.Event, Script]:
    ended = threading.Event()

    def say(connection: socket.socket) -> None:
        try:
            connection.sendall(first)
            while not ended.wait(0.01):
                connection.sendall(drop)
        finally:
            ended.set()

    return ended, say


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1", b"0"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: x\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b""),
    ],
    ids=["endless-head", "endless-continues", "endless-chunk-size", "endless-trailers", "endless-body", "silence"],
)
def test_server_that_never_comes_to_an_end_is_left_in_time(monkeypatch: pytest.MonkeyPatch, first: bytes, drop: bytes) -> None:
    monkeypatch.setattr(transport_module, "READ_SECONDS", 0.5)
    monkeypatch.setattr("taskfleet.artifacts.connections.TICK_SECONDS", 0.05)
    ended, say = drip(first, drop)
    with raw_server(say) as host, pytest.raises(SourceUnavailable):
        get(access(host), f"http://{host}/", seconds=0.5, limit=10**9)
    ended.set()


def test_server_that_drips_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "SLOW_SECONDS", 0.2)
    ended, say = drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x")
    with raw_server(say) as host, pytest.raises(SourceUnavailable, match="too slow"):
        get(access(host), f"http://{host}/", limit=10**9)
    ended.set()


def test_endless_body_is_cut_off_at_the_limit() -> None:
    def say(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(bytes(65536))

    with raw_server(say) as host, pytest.raises(SourceUnavailable, match="more than 100000 bytes"):
        get(access(host), f"http://{host}/", limit=100_000)


def test_compressed_body_is_not_unpacked() -> None:
    with server(lambda _: (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b not really")) as running:
        assert get(access(running.host), f"http://{running.host}/") == b"\x1f\x8b not really"
        assert running.headers[0]["accept-encoding"] == "identity"


def test_messages_repeat_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://127.0.0.1:1/path?X-Amz-Signature=wholly-secret"
    with pytest.raises(SourceUnavailable) as refusal:
        get(access("127.0.0.1:1"), url, credentials=SECRET)
    assert "wholly-secret" not in f"{refusal.value} {refusal.value!r}"
    assert "127.0.0.1:1" in str(refusal.value)
