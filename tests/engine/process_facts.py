"""A process, its descendants, and where they listen: read from /proc, the only account that no library can leave anything out of."""

import ipaddress
import socket
from pathlib import Path

LISTENING = "0A"


def listening_addresses(process: int) -> set[tuple[str, int]]:
    """(address, port) of every TCP socket on which the process or a descendant of it listens."""
    inodes = {inode for one in _family(process) for inode in _sockets(one)}
    return {place for table in ("tcp", "tcp6") for place, inode in _table(Path("/proc/net") / table) if inode in inodes}


def children(process: int) -> list[int]:
    """Processes that any thread of this one has started, and that still run."""
    return [int(child) for listed in Path(f"/proc/{process}/task").glob("*/children") for child in listed.read_text().split()]


def _family(process: int) -> list[int]:
    return [process, *(one for child in children(process) for one in _family(child))]


def _sockets(process: int) -> list[str]:
    inodes = []
    for entry in Path(f"/proc/{process}/fd").iterdir():
        try:
            link = str(entry.readlink())
        except FileNotFoundError:  # closed since it was listed
            continue
        if link.startswith("socket:["):
            inodes.append(link[len("socket:[") : -1])
    return inodes


def _table(path: Path) -> list[tuple[tuple[str, int], str]]:
    rows = [line.split() for line in path.read_text().splitlines()[1:]]
    return [(_place(row[1]), row[9]) for row in rows if row[3] == LISTENING]


def _place(text: str) -> tuple[str, int]:
    address, port = text.split(":")
    # Words of four bytes, each in the machine's own order.
    packed = b"".join(int(address[start : start + 8], 16).to_bytes(4, "little") for start in range(0, len(address), 8))
    return str(ipaddress.ip_address(socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed))), int(port, 16)
