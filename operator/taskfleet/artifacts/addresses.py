"""Which addresses artifacts may be fetched from: the public ones, and what the administrator allows of the rest.

A tenant writes source URLs, and a pod has more in its reach than a tenant should: other pods, the node, the cloud's metadata service. So every address that a name resolves
to is judged, at every hop (`connections`). The tables follow IANA's registries of special-purpose addresses (RFC 6890 and its updates).
"""

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from taskfleet.artifacts.errors import SourceNotAllowed, SourceUnavailable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
SETTING = "artifacts.allowedNetworks"


class _Grant(Enum):
    """What it takes to allow an address of such a network."""

    NETWORK = "any listed network that holds the address"
    EXPLICIT = "a listed network that lies within this one: 0.0.0.0/0 is not meant to open the pod's own ports"
    NEVER = "nothing"


@dataclass(frozen=True, slots=True)
class _Special:
    network: Network
    kind: str
    grant: _Grant


def _special(network: str, kind: str, grant: _Grant = _Grant.NETWORK) -> _Special:
    return _Special(ip_network(network), kind, grant)


_SPECIAL = (
    _special("0.0.0.0/8", "an unspecified", _Grant.NEVER),
    _special("127.0.0.0/8", "a loopback", _Grant.EXPLICIT),
    _special("169.254.0.0/16", "a link-local", _Grant.EXPLICIT),
    _special("10.0.0.0/8", "a private"),
    _special("172.16.0.0/12", "a private"),
    _special("192.168.0.0/16", "a private"),
    _special("100.64.0.0/10", "a private (carrier-grade NAT)"),
    _special("198.18.0.0/15", "a private (benchmarking)"),
    _special("192.0.0.0/24", "a reserved", _Grant.EXPLICIT),
    _special("192.0.2.0/24", "a reserved (documentation)", _Grant.EXPLICIT),
    _special("192.88.99.0/24", "a reserved (6to4)", _Grant.EXPLICIT),
    _special("198.51.100.0/24", "a reserved (documentation)", _Grant.EXPLICIT),
    _special("203.0.113.0/24", "a reserved (documentation)", _Grant.EXPLICIT),
    _special("224.0.0.0/4", "a multicast", _Grant.NEVER),
    _special("255.255.255.255/32", "a broadcast", _Grant.NEVER),
    _special("240.0.0.0/4", "a reserved", _Grant.EXPLICIT),
    _special("::/128", "an unspecified", _Grant.NEVER),
    _special("::1/128", "a loopback", _Grant.EXPLICIT),
    _special("fe80::/10", "a link-local", _Grant.EXPLICIT),
    _special("fec0::/10", "a site-local", _Grant.EXPLICIT),
    _special("fc00::/7", "a private (unique local)"),
    _special("ff00::/8", "a multicast", _Grant.NEVER),
    _special("64:ff9b:1::/48", "a local NAT64", _Grant.EXPLICIT),
    _special("2001::/23", "a reserved (Teredo and others)", _Grant.EXPLICIT),
    _special("2001:db8::/32", "a reserved (documentation)", _Grant.EXPLICIT),
    _special("2002::/16", "a 6to4", _Grant.EXPLICIT),
    _special("3fff::/20", "a reserved (documentation)", _Grant.EXPLICIT),
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# Services that hand out a node's or pod's cloud credentials, some of them at public addresses. Only an address that is listed by itself is meant.
_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # most clouds
        "169.254.170.2",  # Amazon ECS
        "169.254.170.23",  # Amazon EKS Pod Identity
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # Amazon
        "fd00:ec2::23",  # Amazon EKS Pod Identity
        "fd20:ce::254",  # Google Cloud
    )
)
# For whoever is no tenant: the person who pushes from a laptop.
ANYWHERE: tuple[Network, ...] = (ip_network("0.0.0.0/0"), ip_network("::/0"), *(special.network for special in _SPECIAL))

Lookup = Callable[[str, int], Sequence[Address]]
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?")
_ENDS_IN_NUMBER = re.compile(r"(.*\.)?([0-9]+|0[xX][0-9a-fA-F]*)\.?")


def parse_networks(text: str) -> tuple[Network, ...]:
    """Comma-separated networks in CIDR notation. Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def objection(address: Address, allowed: Sequence[Network]) -> str | None:
    """What kind of address it is ("a private"), if nothing may be fetched from there; None: it may."""
    judged = _judged(address)
    if judged in _METADATA:
        return None if any(network.num_addresses == 1 and judged in network for network in allowed) else "a cloud metadata"
    special = next((special for special in _SPECIAL if judged in special.network), None)
    if special is None:
        return "a reserved" if isinstance(judged, IPv6Address) and judged not in _GLOBAL_V6 else None
    if special.grant is _Grant.NEVER:
        return special.kind
    explicit = special.grant is _Grant.EXPLICIT
    return None if _holds(allowed, judged, within=special.network if explicit else None) else special.kind


def check_host(host: str) -> None:
    """Raises SourceNotAllowed for what is no name of a host and no address in its one usual form: `2130706433`, `0x7f.1` and `017700000001` are addresses to some."""
    bare = host.removeprefix("[").removesuffix("]")
    try:
        address = ip_address(bare)
    except ValueError:
        if _NAME.fullmatch(host) and len(host) <= 253 and not _ENDS_IN_NUMBER.fullmatch(host):
            return
    else:
        if getattr(address, "scope_id", None) is None:
            return
    raise SourceNotAllowed(f"{host!r} is no host name, and no address in its usual form")


def check_addresses(host: str, addresses: Sequence[Address], allowed: Sequence[Network]) -> None:
    """Raises SourceNotAllowed if any of a host's addresses may not be fetched from: which of them is connected to is not the name's to choose."""
    for address in addresses:
        kind = objection(address, allowed)
        if kind is not None:
            raise SourceNotAllowed(
                f"{host} is at {kind} address, where nothing is fetched from unless the chart's value {SETTING} allows it"
            )


def look_up(host: str, port: int) -> list[Address]:
    """A host's addresses, in the system's order of preference. Raises SourceUnavailable."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise SourceUnavailable(f"{host} can't be resolved") from None
    return [ip_address(entry[4][0]) for entry in found]


def _judged(address: Address) -> Address:
    """The address that a packet would go to in the end."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _holds(allowed: Sequence[Network], address: Address, *, within: Network | None = None) -> bool:
    return any(address in network and (within is None or network.subnet_of(within)) for network in allowed)  # type: ignore[arg-type]
