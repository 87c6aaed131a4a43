"""The pod's door, open from the agent's first moment: before the libraries are there, which take a second of a core to import.

The kubelet asks once a second whether the sidecar has started, and only then creates the container that waits for the base. Somebody may be waiting for this pod, so it is told
yes at once, and that container comes up while the agent does. Nothing here may import what takes time.
"""

import contextlib
import selectors
import socket
import threading
from collections.abc import Mapping

from taskfleet.names import AGENT_PORT

_LIVE = b"GET /livez "
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
_STARTING = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 8\r\nRetry-After: 1\r\nConnection: close\r\n\r\nstarting"
_HEAD_BYTES = 4096
_HEAD_SECONDS = 1.0
_LAST_PORT = 65_535
BACKLOG = 128  # as aiohttp's servers have


class Door:
    """Listens, and answers that the agent lives; everything else is 503 until the agent takes over. Raises OSError where it can't listen."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        # A client that has left between being seen and being taken must not make this wait for the next one.
        self._listening.setblocking(False)
        self._over, self._stop = socket.socketpair()
        self._answering = threading.Thread(target=self._answer, name="door", daemon=True)
        self._answering.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._listening.getsockname()[:2]
        return host, port

    def hand_over(self) -> socket.socket:
        """The listening socket, to whoever answers from now on. Connections that nobody has taken yet wait in it."""
        self._stop.close()
        self._answering.join()
        self._over.close()
        return self._listening

    def _answer(self) -> None:
        with selectors.DefaultSelector() as either:
            either.register(self._over, selectors.EVENT_READ)
            either.register(self._listening, selectors.EVENT_READ)
            while not any(found.fileobj is self._over for found, _ in either.select()):
                with contextlib.suppress(OSError):
                    connection, _ = self._listening.accept()
                    with connection:
                        connection.settimeout(_HEAD_SECONDS)
                        connection.sendall(_OK if connection.recv(_HEAD_BYTES).startswith(_LIVE) else _STARTING)


def opened(environment: Mapping[str, str]) -> Door | None:
    """At the address of the agent's settings; None where that can't be. Reading the settings, or listening again, then tells what is wrong."""
    host, port = environment.get("TASKFLEET_POD_IP", "0.0.0.0"), environment.get("TASKFLEET_LISTEN_PORT", str(AGENT_PORT))
    if not port.isdecimal() or int(port) > _LAST_PORT:
        return None
    with contextlib.suppress(OSError):
        return Door(host, int(port))
    return None
