"""The local cluster is a real one: what operators and their users rely on works here as it does elsewhere."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.local.cluster import Cluster
from tests.cluster.local.failures import ClusterError

NAMESPACE = "local-cluster"
SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def eventually(condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)


def pod(name: str, image: str, command: list[str], **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": image, "command": command, "securityContext": SECURITY, **spec.pop("container", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=3) as reply:  # noqa: S310  our own URLs, all http
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> str:
    return cluster.provide_base_image()


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace that admits only pods of Pod Security `restricted`."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}])
    yield NAMESPACE
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def web(cluster: Cluster, image: str, namespace: str) -> str:
    """The name of a pod that answers HTTP on port 8080, and of its Service on port 80."""
    service: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    cluster.apply([pod("web", image, ["python3", "-m", "http.server", "8080"]), service])
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/web", "--timeout=120s", timeout=150)
    return "web"


def field(cluster: Cluster, kind: str, name: str, path: str) -> str:
    return cluster.kubectl("-n", NAMESPACE, "get", kind, name, "-o", f"jsonpath={{{path}}}")


def in_pod(cluster: Cluster, name: str, *command: str) -> str:
    return cluster.kubectl("-n", NAMESPACE, "exec", name, "-c", "main", "--", *command)


def can_run_in(cluster: Cluster, name: str) -> bool:
    try:
        return in_pod(cluster, name, "echo", "still here") == "still here\n"
    except ClusterError:
        return False


def test_pods_and_services_answer_the_machine(cluster: Cluster, web: str) -> None:
    pod_address = field(cluster, "pod", web, ".status.podIP")
    service_address = field(cluster, "service", web, ".spec.clusterIP")
    eventually(lambda: answers(f"http://{pod_address}:8080/"), "the pod's address")
    eventually(lambda: answers(f"http://{service_address}/"), "the Service's address")


def test_service_is_offered_on_loopback_at_one_url(cluster: Cluster, web: str) -> None:
    url = cluster.expose(NAMESPACE, web, 80)
    assert url.startswith("http://127.0.0.1:")
    eventually(lambda: answers(f"{url}/"), "the forwarded Service")
    assert cluster.expose(NAMESPACE, web, 80) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://web.local-cluster.svc.cluster.local/",  # hairpin: the pod is its own Service's backend
        "http://web.local-cluster/",
        "http://registry.taskfleet-registry.svc.cluster.local:5000/v2/",
    ],
)
def test_names_resolve_and_answer_in_pods(cluster: Cluster, web: str, url: str) -> None:
    program = f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=5).status)"
    assert in_pod(cluster, web, "python3", "-c", program).strip() == "200"


def test_names_of_the_world_outside_do_not_resolve(cluster: Cluster, web: str) -> None:
    with pytest.raises(ClusterError, match=r"socket\.gaierror"):
        in_pod(cluster, web, "python3", "-c", "import socket; socket.getaddrinfo('example.org', 443)")


def test_restricted_namespace_refuses_a_careless_pod(cluster: Cluster, namespace: str, image: str) -> None:
    with pytest.raises(ClusterError, match=r"violates PodSecurity .restricted"):
        cluster.kubectl("-n", namespace, "run", "careless", f"--image={image}")


def test_sidecar_runs_before_the_main_container(cluster: Cluster, namespace: str, image: str) -> None:
    sidecar = {
        "name": "sidecar",
        "image": image,
        "restartPolicy": "Always",
        "command": ["sh", "-c", "touch /shared/ready; exec sleep 1000"],
        "startupProbe": {"exec": {"command": ["test", "-e", "/shared/ready"]}, "periodSeconds": 1},
        "securityContext": SECURITY,
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
    }
    main = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    command = ["sh", "-c", "test -e /shared/ready && exec sleep 1000"]
    cluster.apply([pod("sidecar", image, command, container=main, initContainers=[sidecar], volumes=[{"name": "shared", "emptyDir": {}}])])
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/sidecar", "--timeout=90s")
    assert field(cluster, "pod", "sidecar", ".status.containerStatuses[0].restartCount") == "0"


def test_token_is_good_for_its_audience_only(cluster: Cluster, namespace: str) -> None:
    token = cluster.kubectl("-n", namespace, "create", "token", "default", "--audience=somebody").strip()

    def authenticated(audience: str) -> bool:
        review: dict[str, Any] = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        answer = cluster.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(review))
        return bool(json.loads(answer)["status"].get("authenticated"))

    assert authenticated("somebody")
    assert not authenticated("https://kubernetes.default.svc.cluster.local")


def test_scheduler_places_and_refuses_by_the_accelerators_that_the_node_claims(cluster: Cluster, namespace: str, image: str) -> None:
    for name, resource, count in (
        ("five-a", "nvidia.com/gpu", "5"),
        ("five-b", "nvidia.com/gpu", "5"),
        ("slice", "nvidia.com/mig-1g.5gb", "1"),
        ("other-maker", "amd.com/gpu", "2"),
    ):
        cluster.apply([pod(name, image, ["sleep", "1000"], container={"resources": {"limits": {resource: count}}})])
        if name != "five-b":
            cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=90s")
    eventually(
        lambda: "Insufficient nvidia.com/gpu" in field(cluster, "pod", "five-b", ".status.conditions[?(@.type=='PodScheduled')].message"),
        "the scheduler's refusal",
    )


def test_folder_of_the_machine_is_read_in_a_restricted_pod_and_cannot_be_written(
    cluster: Cluster, namespace: str, image: str, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "weights").write_text("bytes of an engine")
    cluster.provide_read_only_claim(folder=tmp_path, namespace=namespace, claim="engine")
    volume = {"name": "engine", "persistentVolumeClaim": {"claimName": "engine", "readOnly": True}}
    mount = {"volumeMounts": [{"name": "engine", "mountPath": "/opt/engine", "readOnly": True}]}
    cluster.apply([pod("reader", image, ["sleep", "1000"], container=mount, volumes=[volume])])
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/reader", "--timeout=90s")
    assert in_pod(cluster, "reader", "cat", "/opt/engine/weights") == "bytes of an engine"
    with pytest.raises(ClusterError, match="Read-only file system"):
        in_pod(cluster, "reader", "touch", "/opt/engine/new")
    cluster.kubectl("-n", namespace, "delete", "pod/reader", "persistentvolumeclaim/engine", "--timeout=60s")
    cluster.kubectl("delete", "persistentvolume", f"{namespace}-engine", "--timeout=60s")


def test_pods_outlive_restarts_of_runtime_kubelet_and_api_server(cluster: Cluster, web: str) -> None:
    identity = ".metadata.uid}{.status.containerStatuses[0].containerID"
    before = field(cluster, "pod", web, identity)
    cluster.restart_containerd()
    cluster.restart_kubelet()
    cluster.restart_api_server()
    address = field(cluster, "pod", web, ".status.podIP")
    assert answers(f"http://{address}:8080/")
    # A kubelet that has just started hears of its pods from the API server a moment later.
    eventually(lambda: can_run_in(cluster, web), "running a command in the pod")
    assert field(cluster, "pod", web, identity) == before


def test_chart_that_asks_for_this_kubernetes_is_accepted_by_helm(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text('{apiVersion: v2, name: probe, version: 0.1.0, kubeVersion: ">=1.37.0"}')
    (tmp_path / "templates" / "settings.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: probe}}")
    cluster.helm("upgrade", "--install", "probe", str(tmp_path), "--namespace", namespace)
    assert "probe" in cluster.kubectl("-n", namespace, "get", "configmaps", "-o", "name")
    cluster.helm("uninstall", "probe", "--namespace", namespace)
