"""The container runtime of an instance: its configuration, its pod network, and images fetched ahead of need."""

import json

from .commands import run
from .instance import Instance
from .namespaces import enter, start_inside
from .processes import ProcessRecord

PAUSE_IMAGE = "taskfleet.local/pause:1"
SOCKET = "/run/containerd/containerd.sock"  # below the instance's own /run


def write_containerd_configuration(instance: Instance) -> None:
    folder = instance.configuration
    (folder / "cni").mkdir(parents=True, exist_ok=True)
    (folder / "certs.d" / "_default").mkdir(parents=True, exist_ok=True)
    (folder / "containerd.toml").write_text(_configuration(instance))
    (folder / "cni" / "10-taskfleet.conflist").write_text(json.dumps(_pod_network(instance), indent=1))
    # Every registry name leads to the instance's own registry: nothing is ever asked of the world outside.
    (folder / "certs.d" / "_default" / "hosts.toml").write_text(
        'server = "http://127.0.0.1:5000"\n\n[host."http://127.0.0.1:5000"]\n  capabilities = ["pull", "resolve"]\n'
    )


def start_containerd(instance: Instance) -> ProcessRecord:
    return start_inside(instance, "containerd", ["/usr/bin/containerd", "--config", str(instance.configuration / "containerd.toml")])


def fetch_image(instance: Instance, image: str) -> None:
    """Fetches an image from the instance's registry now, also when its tag is known already: a rebuilt tag replaces the old one."""
    command = [
        "ctr",
        "--address",
        SOCKET,
        "--namespace",
        "k8s.io",
        "images",
        "pull",
        "--hosts-dir",
        str(instance.configuration / "certs.d"),
        image,
    ]
    run(enter(instance, command), log=instance.logs / "images.log", advice=f"see {instance.logs / 'registry.log'}")


def containerd_answers(instance: Instance) -> bool:
    command = f"ctr --address {SOCKET} version >/dev/null 2>&1 && echo yes; true"
    return run(enter(instance, ["sh", "-c", command])).strip() == "yes"


def _configuration(instance: Instance) -> str:
    # Version 2 is read by containerd 1.6 to 2.x. `restrict_oom_score_adj`: where the first process may not lower scores, every sandbox would
    # fail with "can't get final child".
    return f"""version = 2
root = "{instance.state / "containerd"}"
state = "/run/containerd"

[grpc]
  address = "{SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE_IMAGE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{instance.configuration / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{instance.configuration / "certs.d"}"
"""


def _pod_network(instance: Instance) -> dict[str, object]:
    return {
        "cniVersion": "0.4.0",
        "name": "taskfleet",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods",
                "isGateway": True,
                # The host has a route to the pods, so that sources stay visible.
                "ipMasq": False,
                # A pod may be its own Service's backend.
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(instance.state / "pod-addresses"),
                    "ranges": [[{"subnet": str(instance.pod_network)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
        ],
    }
