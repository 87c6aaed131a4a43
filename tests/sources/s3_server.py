"""A real S3 server (Versity's gateway on a folder) as a process: it checks signatures, pages listings and answers ranges."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.cluster.local.binaries import S3_SERVER, ensure_programs, program_path
from tests.cluster.local.progress import Progress

ACCESS_KEY, SECRET_KEY = "AKIDTESTS", "correct-horse-battery-staple"
REGION = "eu-test-1"


@dataclass(frozen=True, slots=True)
class S3Server:
    """`host` is address and port."""

    host: str
    scheme: str = "http"

    @property
    def endpoint(self) -> str:
        return f"{self.scheme}://{self.host}"

    def client(self, *, ca: Path | None = None) -> Any:
        """Amazon's own client: that it works with the server says that the server speaks S3."""
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            verify=str(ca) if ca is not None else None,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=30),
        )

    def upload(self, folder: Path, bucket: str, prefix: str) -> None:
        """All files of a folder, under a prefix."""
        client = self.client()
        for path in sorted(folder.iterdir()):
            client.put_object(Bucket=bucket, Key=f"{prefix}/{path.name}", Body=path.read_bytes())


@contextmanager
def running_s3_server(folder: Path, *buckets: str, address: str = "127.0.0.1", virtual_domain: str = "") -> Iterator[S3Server]:
    """A server that keeps its buckets below `folder`. With `virtual_domain` it answers at `<bucket>.<virtual_domain>` too."""
    log = folder / "log"
    for name in ("data", "metadata", "users"):
        (folder / name).mkdir(parents=True)
    ensure_programs(Progress(), folder / "build.log", (S3_SERVER,))
    server = S3Server(f"{address}:{_free_port(address)}")
    command: list[str | Path] = [
        program_path(S3_SERVER.name),
        "--port",
        server.host,
        "--region",
        REGION,
        "--quiet",
        "--iam-dir",
        folder / "users",
    ]
    command += ["--virtual-domain", virtual_domain] if virtual_domain else []
    # Extended attributes are not to be had on every file system.
    command += ["posix", "--sidecar", folder / "metadata", folder / "data"]
    environment = {**os.environ, "ROOT_ACCESS_KEY_ID": ACCESS_KEY, "ROOT_SECRET_ACCESS_KEY": SECRET_KEY}
    with log.open("wb") as sink:
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink, cwd=tempfile.gettempdir())
    try:
        _await_answer(process, server, log)
        for bucket in buckets:
            server.client().create_bucket(Bucket=bucket)
        yield server
    finally:
        process.kill()
        process.wait(30)


def _await_answer(process: subprocess.Popen[bytes], server: S3Server, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server.client().list_buckets()
        except (BotoCoreError, ClientError):
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the S3 server does not answer:\n{log.read_text(errors='replace')[-2000:]}")


def _free_port(address: str) -> int:
    with socket.socket() as unused:
        unused.bind((address, 0))
        return int(unused.getsockname()[1])
