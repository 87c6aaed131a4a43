"""Which cluster is meant: its name, its folder, its addresses, and the names of everything that it leaves on the machine.

Instances of all checkouts of a machine share its routing table, so each claims a number of its own in `CLAIMS`; addresses follow from the number.
"""

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

from .cache import locked
from .failures import ClusterError

REPOSITORY = Path(__file__).resolve().parents[3]
CLAIMS = Path("/run/taskfleet-clusters")
NUMBERS = range(1, 32)

LINKS = ipaddress.IPv4Network("10.210.0.0/16")  # /24 each: host and node
PODS = ipaddress.IPv4Network("10.211.0.0/16")  # /21 each
SERVICES = ipaddress.IPv4Network("10.212.0.0/16")  # /21 each


@dataclass(frozen=True, slots=True)
class Instance:
    """One local cluster. `state` holds all its files and goes with `down`."""

    name: str
    number: int
    state: Path

    @property
    def node_name(self) -> str:
        return f"taskfleet-{self.name}"

    @property
    def device_outside(self) -> str:
        return f"tfleet{self.number}"

    @property
    def device_inside(self) -> str:
        return "uplink"

    @property
    def host_address(self) -> str:
        return str(LINKS[self.number * 256 + 1])

    @property
    def node_address(self) -> str:
        return str(LINKS[self.number * 256 + 2])

    @property
    def pod_network(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network((int(PODS[self.number * 2048]), 21))

    @property
    def service_network(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network((int(SERVICES[self.number * 2048]), 21))

    @property
    def api_service_address(self) -> str:
        return str(self.service_network[1])

    @property
    def dns_address(self) -> str:
        return str(self.service_network[10])

    @property
    def cgroup(self) -> str:
        return f"taskfleet-{self.number}"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def configuration(self) -> Path:
        return self.state / "etc"

    @property
    def programs(self) -> Path:
        """Links to kubectl and helm, for people's PATH."""
        return self.state / "bin"


def state_folder(name: str) -> Path:
    """`.cluster` for the instance `dev`, which people use, and `.cluster-NAME` for others."""
    return REPOSITORY / (".cluster" if name == "dev" else f".cluster-{name}")


def find(name: str) -> Instance | None:
    """The instance of this name in this checkout, or None where none was started."""
    state = state_folder(name)
    record = state / "instance.json"
    if not record.is_file():
        return None
    return Instance(name=name, number=int(json.loads(record.read_text())["number"]), state=state)


def claim(name: str) -> Instance:
    """The instance of this name, with a number of its own on this machine: the one it has, or a free one."""
    state = state_folder(name)
    with locked(CLAIMS / "lock"):
        CLAIMS.mkdir(parents=True, exist_ok=True)
        if existing := find(name):
            (CLAIMS / str(existing.number)).write_text(str(state))
            return existing
        number = next((number for number in NUMBERS if _free(number, state)), None)
        if number is None:
            raise ClusterError(
                f"all {len(NUMBERS)} numbers for local clusters are taken on this machine",
                advice=f"look into {CLAIMS} and end clusters with `make down`",
            )
        (CLAIMS / str(number)).write_text(str(state))
        state.mkdir(parents=True, exist_ok=True)
        (state / "instance.json").write_text(json.dumps({"number": number}))
    return Instance(name=name, number=number, state=state)


def release(instance: Instance) -> None:
    """Gives the number back. The last one takes the folder of claims with it."""
    with locked(CLAIMS / "lock"):
        (CLAIMS / str(instance.number)).unlink(missing_ok=True)
        others = [path for path in CLAIMS.iterdir() if path.name != "lock"]
        if not others:
            (CLAIMS / "lock").unlink()
            CLAIMS.rmdir()


def others_claimed(instance: Instance) -> bool:
    """Whether another cluster lives on this machine, in this checkout or another."""
    return CLAIMS.is_dir() and any(path.name not in {"lock", str(instance.number)} for path in CLAIMS.iterdir())


def _free(number: int, state: Path) -> bool:
    holder = CLAIMS / str(number)
    if not holder.exists():
        return not Path(f"/sys/class/net/tfleet{number}").exists()
    owner = Path(holder.read_text().strip())
    # A claim whose checkout was deleted without `make down` binds only as long as its network device lives.
    return owner == state or (not (owner / "instance.json").exists() and not Path(f"/sys/class/net/tfleet{number}").exists())
