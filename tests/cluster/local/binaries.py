"""The programs built from Go modules, kept in the cache by version and by the hash of what they were built from."""

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .cache import cache_folder, locked, publish, sealed
from .commands import run
from .golang import ensure_go
from .progress import Progress

SOURCES = Path(__file__).parent / "go"
KUBERNETES_VERSION = "v1.37.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One build: a folder with go.mod below `SOURCES`, and the names under which the result is called."""

    name: str
    version: str
    package: str = "."
    stamps: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    minutes: str = "1 minute"


def _kubernetes_stamps(version: str) -> tuple[str, ...]:
    # Without them every program reports v0.0.0-master, and charts that ask for a Kubernetes version are refused.
    major, minor, _ = version.removeprefix("v").split(".")
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return tuple(f"{package}.{key}={value}" for package in packages for key, value in values.items())


KUBE = Program(
    name="kube",
    version=KUBERNETES_VERSION,
    stamps=_kubernetes_stamps(KUBERNETES_VERSION),
    links=("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet"),
    minutes="8 to 15 minutes, once",
)
COREDNS = Program(name="coredns", version="v1.15.0", minutes="1 to 4 minutes, once")
HELM = Program(
    name="helm",
    version="v3.21.4",
    package="helm.sh/helm/v3/cmd/helm",
    stamps=(
        "helm.sh/helm/v3/internal/version.version=v3.21.4",
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37",
    ),
    minutes="2 minutes, once",
)
PAUSE = Program(name="pause", version="v1")
KIND = Program(name="kind", version="v0.33.0", package="sigs.k8s.io/kind", minutes="1 minute, once")
# An S3 server that checks signatures as Amazon's does, for tests of artifacts.
S3_SERVER = Program(
    name="versitygw", version="v1.8.0", package="github.com/versity/versitygw/cmd/versitygw", minutes="1 to 4 minutes, once"
)
# What a cluster of processes needs; and what kind needs on a machine where people have not installed it.
FOR_PROCESSES = (PAUSE, KUBE, COREDNS, HELM)
FOR_KIND = {"kubectl": KUBE, "helm": HELM, "kind": KIND}


def fingerprint(program: Program) -> str:
    """Twelve hex digits over everything that goes into the build but the Go toolchain."""
    digest = hashlib.sha256(repr(program).encode())
    for path in sorted((SOURCES / program.name).iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def program_folder(program: Program) -> Path:
    return cache_folder() / "bin" / f"{program.name}-{program.version}-{fingerprint(program)}"


def program_path(name: str) -> Path:
    """Where a program or one of its links stands once `ensure_programs` has run."""
    owner = next(program for program in (*FOR_PROCESSES, KIND, S3_SERVER) if name in (program.name, *program.links))
    return program_folder(owner) / name


def ensure_programs(progress: Progress, log: Path, programs: tuple[Program, ...] = FOR_PROCESSES) -> None:
    """Builds what the cache does not hold complete. One at a time: two builds of Kubernetes at once need more memory than small machines have."""
    for program in programs:
        folder = program_folder(program)
        if sealed(folder):
            continue
        with locked(cache_folder() / "bin" / "lock"):
            if not sealed(folder):
                go = ensure_go(progress, log)
                with progress.step(f"building {program.name} {program.version} from its Go module ({program.minutes}; log: {log})"):
                    publish(folder, partial(_build, program, go, log))


def _build(program: Program, go: Path, log: Path, draft: Path) -> None:
    stamps = " ".join(f"-X {stamp}" for stamp in program.stamps)
    advice = f"see {log}; on a machine without internet access copy {cache_folder() / 'bin'} from one that has it"
    # Built in a copy outside the checkout, whose git data the toolchain would otherwise look at.
    with tempfile.TemporaryDirectory(prefix="taskfleet-go-") as scratch:
        source = Path(scratch) / program.name
        shutil.copytree(SOURCES / program.name, source)
        run(
            [go, "build", "-trimpath", "-mod=readonly", "-ldflags", f"-s -w {stamps}".strip(), "-o", draft / program.name, program.package],
            folder=source,
            environment={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"},
            log=log,
            timeout=3600,
            advice=advice,
        )
    for link in program.links:
        (draft / link).symlink_to(program.name)
