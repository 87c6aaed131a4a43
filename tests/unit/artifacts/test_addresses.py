"""Which addresses artifacts may come from."""

from ipaddress import ip_address

import pytest

from taskfleet.artifacts.addresses import ANYWHERE, check_addresses, check_host, objection, parse_networks
from taskfleet.artifacts.errors import SourceNotAllowed

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "172.15.0.1",
    "172.32.0.1",
    "192.169.0.1",
    "2606:4700::1111",
    "::ffff:1.1.1.1",
    "64:ff9b::1.1.1.1",
    "223.255.255.1",
]
CLOSED = {
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "127.0.0.1": "loopback",
    "127.255.0.1": "loopback",
    "169.254.0.1": "link-local",
    "169.254.169.254": "metadata",
    "169.254.170.23": "metadata",
    "100.100.100.200": "metadata",
    "168.63.129.16": "metadata",
    "fd00:ec2::254": "metadata",
    "10.1.2.3": "private",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.168.1.1": "private",
    "100.64.0.1": "carrier-grade NAT",
    "198.18.0.1": "benchmarking",
    "192.0.0.8": "reserved",
    "192.0.2.1": "documentation",
    "192.88.99.1": "6to4",
    "198.51.100.1": "documentation",
    "203.0.113.1": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    "::": "unspecified",
    "::1": "loopback",
    "::127.0.0.1": "reserved",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:169.254.169.254": "metadata",
    "::ffff:10.0.0.1": "private",
    "64:ff9b::127.0.0.1": "loopback",
    "64:ff9b::10.0.0.1": "private",
    "64:ff9b::169.254.169.254": "metadata",
    "64:ff9b:1::1": "local NAT64",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "fec0::1": "site-local",
    "fc00::1": "unique local",
    "fd12:3456::1": "unique local",
    "ff02::1": "multicast",
    "2002:7f00:1::1": "6to4",
    "2002:a00:1::": "6to4",
    "2001::1": "Teredo",
    "2001:db8::1": "documentation",
    "3fff::1": "documentation",
    "100::1": "reserved",
    "4000::1": "reserved",
}


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_is_open(address: str) -> None:
    assert objection(ip_address(address), ()) is None


@pytest.mark.parametrize(("address", "kind"), CLOSED.items())
def test_other_address_is_closed(address: str, kind: str) -> None:
    assert kind in (objection(ip_address(address), ()) or "")


@pytest.mark.parametrize(
    ("address", "networks", "is_open"),
    [
        ("10.1.2.3", "10.1.0.0/16", True),
        ("10.2.2.3", "10.1.0.0/16", False),
        ("10.1.2.3", "0.0.0.0/0", True),
        ("::ffff:10.1.2.3", "10.1.0.0/16", True),
        ("64:ff9b::10.1.2.3", "10.1.0.0/16", True),
        ("100.64.0.1", "100.64.0.0/10", True),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "0.0.0.0/0", False),
        # Not by accident:
        ("127.0.0.1", "0.0.0.0/0", False),
        ("127.0.0.1", "127.0.0.0/8", True),
        ("127.0.0.1", "127.0.0.1/32", True),
        ("::1", "::/0", False),
        ("::1", "::1/128", True),
        ("169.254.1.1", "0.0.0.0/0", False),
        ("169.254.1.1", "169.254.0.0/16", True),
        ("fe80::1", "fe80::/10", True),
        ("240.0.0.1", "240.0.0.0/4", True),
        # An address of the cloud only by itself:
        ("169.254.169.254", "169.254.0.0/16", False),
        ("169.254.169.254", "169.254.169.254/32", True),
        ("100.100.100.200", "100.64.0.0/10", False),
        ("fd00:ec2::254", "fd00::/8", False),
        # Never:
        ("0.0.0.0", "0.0.0.0/8", False),
        ("224.0.0.1", "224.0.0.0/4", False),
        ("ff02::1", "ff00::/8", False),
        ("4000::1", "4000::/16", False),
    ],
)
def test_administrator_opens_networks_and_no_more_than_named(address: str, networks: str, *, is_open: bool) -> None:
    assert (objection(ip_address(address), parse_networks(networks)) is None) is is_open


def test_whoever_pushes_may_reach_every_host() -> None:
    assert [address for address in CLOSED if "metadata" not in CLOSED[address] and objection(ip_address(address), ANYWHERE)] == [
        address
        for address, kind in CLOSED.items()
        if kind in {"unspecified", "multicast", "broadcast"} or address in {"::127.0.0.1", "100::1", "4000::1"}
    ]


@pytest.mark.parametrize(
    "host", ["registry.example", "localhost", "a_b.example.", "xn--bcher-kva.example", "127.0.0.1", "[::1]", "::1", "1and1.example"]
)
def test_names_and_usual_addresses_are_hosts(host: str) -> None:
    check_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "0x7f000001", "0x7f.1", "127.1", "127.0.1", "0177.0.0.1", "017700000001", "127.0.0.1.", "1.2.3.4.5", "example.0x7f", "256.1.1.1",
        "[fe80::1%25eth0]", "[fe80::1%eth0]", "127%2e0.0.1", "", "-a.example", "a b", "user@host", "bücher.example", "①②⑦.⓪.⓪.①", "a" * 254,
    ],
)  # fmt: skip
def test_other_spellings_are_no_hosts(host: str) -> None:
    with pytest.raises(SourceNotAllowed, match="no host name"):
        check_host(host)


def test_one_closed_address_among_many_closes_the_host_and_the_message_says_what_opens_it() -> None:
    with pytest.raises(SourceNotAllowed, match=r"^x\.example is at a private address.*artifacts\.allowedNetworks") as refusal:
        check_addresses("x.example", [ip_address("1.1.1.1"), ip_address("10.1.2.3")], ())
    assert "10.1.2.3" not in str(refusal.value), "a tenant need not learn the cluster's addresses"
