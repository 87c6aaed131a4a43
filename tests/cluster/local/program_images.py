"""Images of one program each, for what the cluster itself needs: the sandbox of pods and its DNS."""

import shutil
import tempfile
from pathlib import Path

from .binaries import COREDNS, PAUSE, Program, fingerprint, program_path
from .buildah import LOCAL, build, buildah, exists, push
from .containerd import PAUSE_IMAGE
from .dns import IMAGE as DNS_IMAGE
from .instance import Instance

IMAGES: tuple[tuple[Program, str], ...] = ((PAUSE, PAUSE_IMAGE), (COREDNS, DNS_IMAGE))


def push_program_images(instance: Instance, log: Path) -> None:
    for program, image in IMAGES:
        built = f"{LOCAL}/{program.name}:{fingerprint(program)}"
        if not exists(built):
            _build(program, built, log)
        buildah("tag", built, image)
        push(instance, image, log)


def _build(program: Program, image: str, log: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="taskfleet-image-") as scratch:
        context = Path(scratch)
        shutil.copy2(program_path(program.name), context / program.name)
        (context / "Containerfile").write_text(f'FROM scratch\nCOPY {program.name} /{program.name}\nENTRYPOINT ["/{program.name}"]\n')
        build(image, containerfile=context / "Containerfile", context=context, log=log)
