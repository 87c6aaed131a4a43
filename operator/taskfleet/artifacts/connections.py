"""Connections that go to checked addresses only.

A name is resolved once for each connection, all its addresses are judged, and exactly one of those is connected to: a name that resolves to something else a moment later
(DNS rebinding) gains nothing. TLS and the Host header keep the name.
"""

import contextlib
import functools
import math
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any

import certifi
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from taskfleet.artifacts.errors import SourceUnavailable

TICK_SECONDS = 0.5

# Host and port in, a connected socket out. Raises ArtifactError.
Connect = Callable[[str, int, float], socket.socket]


class _Guarded:
    """Mixed into urllib3's connections: replaces how they reach the network, and lets another thread end them."""

    sock: Any
    host: str
    port: int
    timeout: Any

    def __init__(self, *arguments: Any, connect: Connect, opened: Callable[["_Guarded"], None], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._connect_checked = connect
        self._opened = opened

    def _new_conn(self) -> socket.socket:
        self._opened(self)
        return self._connect_checked(self.host, self.port, float(self.timeout))

    def abort(self) -> None:
        """Ends whatever is waited for on it, from any thread."""
        sock = self.sock
        if isinstance(sock, socket.socket):
            # Not an SSLSocket's own `shutdown`, which takes the TLS state from under the thread that reads.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _PlainConnection(_Guarded, HTTPConnection):
    pass


class _TlsConnection(_Guarded, HTTPSConnection):
    pass


class PlainPool(HTTPConnectionPool):
    """Over http."""

    ConnectionCls = _PlainConnection


class TlsPool(HTTPSConnectionPool):
    """Over https."""

    ConnectionCls = _TlsConnection


class Watchdog:
    """Ends a connection that is waited on for too long. A socket's own limit is for one read of it, and an answer's head, or a chunk's, may come in a million."""

    def __init__(self) -> None:
        self._connection: _Guarded | None = None
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._due = math.inf
        self._has_bitten = False

    def guard(self, connection: _Guarded) -> None:
        """Watches this connection from now on."""
        self._connection = connection
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog of a connection", daemon=True)
            self._thread.start()

    @contextmanager
    def limit(self, seconds: float, host: str) -> Iterator[None]:
        """Raises SourceUnavailable if the block takes longer, whatever comes out of it: a connection that was ended may look like an answer that is complete."""
        self._due = time.monotonic() + seconds
        try:
            yield
        except (HTTPError, HTTPException, OSError, ValueError):
            if not self._has_bitten:
                raise
        finally:
            self._due = math.inf
        if self._has_bitten:
            raise SourceUnavailable(f"{host} took longer than {seconds:.0f} seconds to answer")

    def stop(self) -> None:
        """There is nothing to watch any more."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(TICK_SECONDS):
            if time.monotonic() >= self._due and self._connection is not None:
                self._has_bitten = True
                self._connection.abort()


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Trusts the system's authorities, or those that SSL_CERT_FILE and SSL_CERT_DIR name, and beside them Mozilla's: slim images have none of their own."""
    context = ssl.create_default_context()
    if not os.environ.get("SSL_CERT_FILE"):
        context.load_verify_locations(certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def connect_to(addresses: list[str], host: str, port: int, seconds: float) -> socket.socket:
    """A socket to the first of the addresses that answers. Raises SourceUnavailable."""
    trouble: OSError | None = None
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(seconds)
            connection.connect((address, port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connection.close()
            trouble = error
        else:
            return connection
    raise SourceUnavailable(f"{host}:{port} can't be reached: {trouble.strerror or trouble if trouble else 'it has no address'}")
