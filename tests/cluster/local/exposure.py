"""Services of the cluster at 127.0.0.1 of the machine, for people's browsers and curl."""

import os
import sys

from .failures import ClusterError
from .instance import REPOSITORY, Instance
from .kubectl import kubectl
from .processes import alive, read_record, start_outside, stop
from .waiting import wait_until


def expose(instance: Instance, namespace: str, service: str, port: int) -> str:
    """The URL at which the Service's port is offered on 127.0.0.1, by a process that `down` ends. The same URL when asked again.

    `port` is the Service's port number. Raises ClusterError where there is no such Service.
    """
    name = f"forward-{namespace}-{service}-{port}"
    target = f"{_cluster_ip(instance, namespace, service)}:{port}"
    announcement = instance.state / f"{name}.port"
    target_file = instance.state / f"{name}.target"
    record = read_record(instance, name)
    if record and alive(record) and announcement.exists() and target_file.read_text() == target:
        return f"http://127.0.0.1:{announcement.read_text()}"
    # A Service that was deleted and made again has another address; whoever holds the URL keeps it where the port is still free.
    kept_port = announcement.read_text() if announcement.exists() else "0"
    stop(instance, name)
    announcement.unlink(missing_ok=True)
    target_file.write_text(target)
    command = [sys.executable, "-m", "tests.cluster.local.forwarder"]
    options = ["--target", target, "--announcement", str(announcement), "--port", kept_port]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    started = start_outside(instance, name, [*command, *options], environment=environment)
    log = instance.logs / f"{name}.log"

    def ended() -> None:
        if not alive(started):
            raise ClusterError(f"the forwarder to {service} ended", log=log, advice=f"is port {kept_port} taken on 127.0.0.1?")

    wait_until(announcement.exists, f"the forwarder to {service}", seconds=30, check=ended, advice=f"read {log}")
    return f"http://127.0.0.1:{announcement.read_text()}"


def _cluster_ip(instance: Instance, namespace: str, service: str) -> str:
    address = kubectl(instance, "get", "service", service, f"--namespace={namespace}", "-o", "jsonpath={.spec.clusterIP}").strip()
    if not address or address == "None":
        raise ClusterError(
            f"Service {namespace}/{service} has no address of its own", advice="only Services with a ClusterIP can be exposed"
        )
    return address
