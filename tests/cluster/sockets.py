"""Which TCP ports a pod listens on, read from its own network namespace."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from tests.cluster.local.cluster import Cluster

LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket."""

    address: IPv4Address | IPv6Address
    port: int

    @property
    def reachable_from_outside(self) -> bool:
        mapped = self.address.ipv4_mapped if isinstance(self.address, IPv6Address) else None
        return not (mapped or self.address).is_loopback


def listeners(cluster: Cluster, pod: str, namespace: str, container: str) -> list[Listener]:
    """By `cat` in one of the pod's containers; all of them share the pod's network."""
    tables = cluster.kubectl("exec", "-n", namespace, pod, "-c", container, "--", "cat", "/proc/net/tcp", "/proc/net/tcp6")
    return parse(tables)


def parse(tables: str) -> list[Listener]:
    """The listening sockets of /proc/net/tcp and tcp6; other lines are headers or connections."""
    rows = [line.split() for line in tables.splitlines()]
    return [_listener(row[1]) for row in rows if len(row) > 3 and row[3] == LISTEN]


def _listener(text: str) -> Listener:
    # The kernel prints each 32-bit word of an address in the byte order of the machine, which is little-endian here.
    words, _, port = text.partition(":")
    raw = b"".join(bytes.fromhex(words[start : start + 8])[::-1] for start in range(0, len(words), 8))
    return Listener(ip_address(raw), int(port, 16))
