"""kubelet and kube-proxy: their configuration and command lines."""

import json

from .binaries import program_path
from .containerd import SOCKET
from .instance import Instance
from .namespaces import start_inside
from .processes import ProcessRecord


def start_kubelet(instance: Instance) -> ProcessRecord:
    configuration = instance.configuration / "kubelet.json"
    (instance.configuration / "resolv.conf").write_text("")
    configuration.write_text(json.dumps(_kubelet_configuration(instance), indent=1))
    command = [
        str(program_path("kubelet")),
        f"--config={configuration}",
        f"--kubeconfig={instance.pki / 'kubelet.kubeconfig'}",
        f"--hostname-override={instance.node_name}",
        f"--node-ip={instance.node_address}",
    ]
    return start_inside(instance, "kubelet", command)


def start_proxy(instance: Instance) -> ProcessRecord:
    configuration = instance.configuration / "kube-proxy.json"
    content = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": str(instance.pod_network),
        "hostnameOverride": instance.node_name,
        "clientConnection": {"kubeconfig": str(instance.pki / "proxy.kubeconfig")},
        # These limits belong to the machine, not to our network namespace.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    configuration.write_text(json.dumps(content, indent=1))
    return start_inside(instance, "kube-proxy", [str(program_path("kube-proxy")), f"--config={configuration}"])


def _kubelet_configuration(instance: Instance) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(instance.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(instance.pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(instance.pki / "kubelet-server.key"),
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{instance.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [instance.dns_address],
        "clusterDomain": "cluster.local",
        # Empty: pods ask the cluster's DNS only.
        "resolvConf": str(instance.configuration / "resolv.conf"),
        "volumePluginDir": str(instance.state / "volume-plugins"),
        "imageGCHighThresholdPercent": 100,
        # The machine's disk and memory are shared with builds and tests; eviction would only make them flaky.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "serializeImagePulls": False,
        # Otherwise an image that was fetched ahead under another name is pulled again.
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        "makeIPTablesUtilChains": False,
        "syncFrequency": "10s",
    }
