"""A real OCI registry (Debian's docker-registry) as a process on the loopback interface."""

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

USER, PASSWORD = "robot", "correct horse"
_BCRYPT = "$2b$04$HoPmnT4Vk3pd8PAm15.CpuNWFAVk6PmlLNlyL0bcRYqvtYCZkxbWq"  # of PASSWORD, at the lowest cost


@dataclass(frozen=True, slots=True)
class RegistryProcess:
    """`host` is address and port; `blobs` the folder in which the registry keeps them."""

    host: str
    blobs: Path

    def blob(self, digest: str) -> Path:
        """The file with a blob's bytes, to be tampered with."""
        hexadecimal = digest.removeprefix("sha256:")
        return self.blobs / hexadecimal[:2] / hexadecimal / "data"


@contextmanager
def running_registry(folder: Path, *, login: bool = False) -> Iterator[RegistryProcess]:
    """A registry that keeps its files under `folder`, with or without asking for USER and PASSWORD."""
    host = f"127.0.0.1:{_free_port()}"
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": host, "secret": "fixed"},
    }
    if login:
        (folder / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    # JSON is YAML.
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log)
        try:
            _await_answer(process, host, folder / "log")
            yield RegistryProcess(host, folder / "data" / "docker" / "registry" / "v2" / "blobs" / "sha256")
        finally:
            process.kill()
            process.wait(30)


def _await_answer(process: subprocess.Popen[bytes], host: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(host, timeout=5)
        try:
            connection.request("GET", "/v2/")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.02)
        finally:
            connection.close()
    raise RuntimeError(f"docker-registry does not answer:\n{log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])
