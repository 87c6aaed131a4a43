"""etcd, API server, controller-manager and scheduler: their command lines, and how to know that they work."""

import base64
import http.client
import json
import ssl
from collections.abc import Callable
from pathlib import Path

from .binaries import program_path
from .instance import Instance
from .namespaces import start_inside
from .processes import ProcessRecord

ISSUER = "https://kubernetes.default.svc.cluster.local"


def start_etcd(instance: Instance) -> ProcessRecord:
    command = [
        "/usr/bin/etcd",
        f"--data-dir={instance.state / 'etcd'}",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
        "--log-level=warn",
        # The data goes with the cluster; waiting for the disk would only slow the tests.
        "--unsafe-no-fsync",
    ]
    return start_inside(instance, "etcd", command)


def start_api_server(instance: Instance) -> ProcessRecord:
    pki = instance.pki
    command = [
        str(program_path("kube-apiserver")),
        "--etcd-servers=http://127.0.0.1:2379",
        "--secure-port=6443",
        f"--advertise-address={instance.node_address}",
        f"--service-cluster-ip-range={instance.service_network}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={pki / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy.key'}",
        "--enable-aggregator-routing=true",
        # What is under test must behave with the API server's own limits, so the limits stay at their defaults.
    ]
    return start_inside(instance, "kube-apiserver", command)


def start_controller_manager(instance: Instance) -> ProcessRecord:
    kubeconfig = instance.pki / "controller-manager.kubeconfig"
    command = [
        str(program_path("kube-controller-manager")),
        *_client_flags(kubeconfig),
        "--use-service-account-credentials",
        f"--service-account-private-key-file={instance.pki / 'service-accounts.key'}",
        f"--root-ca-file={instance.pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={instance.pki / 'ca.crt'}",
        f"--cluster-signing-key-file={instance.pki / 'ca.key'}",
        f"--requestheader-client-ca-file={instance.pki / 'front-proxy-ca.crt'}",
    ]
    return start_inside(instance, "kube-controller-manager", command)


def start_scheduler(instance: Instance) -> ProcessRecord:
    kubeconfig = instance.pki / "scheduler.kubeconfig"
    return start_inside(instance, "kube-scheduler", [str(program_path("kube-scheduler")), *_client_flags(kubeconfig)])


def _client_flags(kubeconfig: Path) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        # The only one of its kind, and it starts faster without.
        "--leader-elect=false",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]


def api_server_ready(instance: Instance) -> Callable[[], bool]:
    """A condition to wait for: the API server says that it is ready, etcd included."""
    cluster = json.loads(instance.kubeconfig.read_text())["clusters"][0]["cluster"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    context.load_cert_chain(instance.pki / "admin.crt", instance.pki / "admin.key")

    def ready() -> bool:
        connection = http.client.HTTPSConnection(instance.node_address, 6443, timeout=5, context=context)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            # Not listening yet, or not answering yet.
            return False
        finally:
            connection.close()

    return ready
