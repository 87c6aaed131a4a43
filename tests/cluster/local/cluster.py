"""What tests and the demonstration hold in their hands: one running instance, with the addresses and tools that belong to it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import lifecycle
from .containerd import containerd_answers
from .control_plane import api_server_ready
from .debian_base import IMAGE as BASE_IMAGE
from .exposure import expose
from .images import RECIPES, provide_images, released
from .instance import Instance
from .kubectl import apply, helm, kubectl
from .namespaces import enter
from .node_readiness import node_is_ready
from .progress import Progress
from .registry import ADDRESS_IN_PODS, address_on_host
from .volumes import provide_read_only_claim
from .waiting import wait_until


@dataclass(frozen=True)
class Cluster:
    """A running local cluster of processes; kind's has its own subclass."""

    instance: Instance

    @property
    def kubeconfig(self) -> Path:
        return self.instance.kubeconfig

    @property
    def node_name(self) -> str:
        return self.instance.node_name

    @property
    def registry_on_host(self) -> str:
        """HOST:PORT of the OCI registry for programs of the machine; plain HTTP."""
        return address_on_host(self.instance)

    @property
    def registry_in_pods(self) -> str:
        """HOST:PORT of the same registry for pods; plain HTTP."""
        return ADDRESS_IN_PODS

    @property
    def machine_in_pods(self) -> str:
        """An address of the machine that pods reach, and programs of the machine may listen on."""
        return self.instance.host_address

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        return kubectl(self.instance, *arguments, stdin=stdin, timeout=timeout)

    def helm(self, *arguments: str, timeout: float = 600) -> str:
        return helm(self.instance, *arguments, timeout=timeout)

    def apply(self, objects: list[dict[str, object]]) -> None:
        apply(self.instance, objects)

    def provide_images(self, *names: str, progress: Progress | None = None) -> None:
        """Builds `product` and/or `simulator` from this checkout (both without names) and puts them on the node."""
        provide_images(self.instance, progress or Progress(), *(RECIPES[name] for name in names or RECIPES))

    def provide_released_image(self, archive: Path) -> str:
        """Builds the product from a release's source, a compressed tar, and puts it on the node; gives the image's name."""
        recipe = released(archive)
        provide_images(self.instance, Progress(), recipe)
        return recipe.image

    def provide_base_image(self) -> str:
        """Puts the plain Debian image with Python on the node; gives its name."""
        provide_images(self.instance, Progress())
        return BASE_IMAGE

    def provide_read_only_claim(self, *, folder: Path, namespace: str, claim: str) -> None:
        provide_read_only_claim(self.instance, node_name=self.node_name, folder=folder, namespace=namespace, claim=claim)

    def expose(self, namespace: str, service: str, port: int) -> str:
        """A URL on 127.0.0.1 for a Service's port."""
        return expose(self.instance, namespace, service, port)

    def inside(self, *command: str) -> list[str]:
        """The command line that runs `command` in the cluster's own namespaces: `ss`, `nft`, `ctr`."""
        return enter(self.instance, command)

    def restart_api_server(self) -> None:
        self._restart("kube-apiserver", self.api_server_answers)

    def restart_kubelet(self) -> None:
        self._restart("kubelet", self.node_answers)

    def restart_containerd(self) -> None:
        self._restart("containerd", lambda: self.runtime_answers() and self.node_answers())

    def stop_component(self, name: str) -> None:
        """Ends a component until `start_component`: an outage."""
        lifecycle.stop_component(self.instance, name)

    def start_component(self, name: str) -> None:
        lifecycle.start_component(self.instance, name)

    def api_server_answers(self) -> bool:
        return api_server_ready(self.instance)()

    def runtime_answers(self) -> bool:
        return containerd_answers(self.instance)

    def node_answers(self) -> bool:
        return node_is_ready(self.instance, self.node_name)

    def _restart(self, component: str, ready: Callable[[], bool]) -> None:
        self.stop_component(component)
        self.start_component(component)
        wait_until(ready, f"{component} after its restart", seconds=120)
