"""taskfleet's own images: built from this checkout, pushed to an instance's registry and fetched onto its node."""

import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .buildah import LOCAL, build, push
from .cache import cache_folder, locked
from .containerd import fetch_image
from .debian_base import IMAGE as BASE_IMAGE
from .debian_base import ensure_base_image
from .failures import ClusterError
from .instance import REPOSITORY, Instance
from .package_settings import package_secrets
from .progress import Progress

PRODUCT_IMAGE = f"{LOCAL}/taskfleet:dev"
SIMULATOR_IMAGE = f"{LOCAL}/engine-simulator:dev"
RELEASED_IMAGE = f"{LOCAL}/taskfleet:released"

# Never part of an image, wherever in the copied folders.
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info", ".*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """An image, and what it is made of: some paths of the checkout, or all of a compressed tar. Only that reaches the build."""

    image: str
    containerfile: Path  # relative to the context where it is a part of it
    paths: tuple[str, ...] = ()
    archive: Path | None = None


PRODUCT = Recipe(
    image=PRODUCT_IMAGE,
    containerfile=REPOSITORY / "Containerfile",
    paths=("pyproject.toml", "README.md", "LICENSE", "operator", "requirements/image.txt", "requirements/build.txt"),
)
SIMULATOR = Recipe(
    image=SIMULATOR_IMAGE,
    containerfile=Path(__file__).parent / "containerfiles" / "simulator.Containerfile",
    paths=("tests/engine/simulator", "requirements/simulator.txt"),
)
RECIPES = {"product": PRODUCT, "simulator": SIMULATOR}


def released(archive: Path) -> Recipe:
    """The product's image from a release's source, its Containerfile among it."""
    return Recipe(image=RELEASED_IMAGE, containerfile=Path("Containerfile"), archive=archive)


def provide_images(instance: Instance, progress: Progress, *recipes: Recipe) -> None:
    """Builds the images where their sources changed, and puts them and the engines' base image onto the instance's node."""
    log = instance.logs / "images.log"
    base = ensure_base_image(progress, log)
    _deliver(instance, BASE_IMAGE, log)
    for recipe in recipes:
        with progress.step(f"building and delivering {recipe.image}"):
            with locked(cache_folder() / "buildah.lock"):
                _build(recipe, base, log)
            _deliver(instance, recipe.image, log)


@contextmanager
def context_of(recipe: Recipe) -> Iterator[Path]:
    """A folder with what the recipe says and nothing else, for the duration of a build."""
    with tempfile.TemporaryDirectory(prefix="taskfleet-context-") as scratch:
        context = Path(scratch)
        if recipe.archive is not None:
            with tarfile.open(recipe.archive) as archive:
                archive.extractall(context, filter="data")
        for name in recipe.paths:
            source, target = REPOSITORY / name, context / name
            if not source.exists():
                raise ClusterError(f"{recipe.image} needs {name}, which this checkout does not have")
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=LEFT_OUT)
            else:
                shutil.copy2(source, target)
        yield context


def _build(recipe: Recipe, base: str, log: Path) -> None:
    with context_of(recipe) as context, package_secrets() as secrets:
        build(
            recipe.image, containerfile=context / recipe.containerfile, context=context, log=log, arguments={"BASE": base}, secrets=secrets
        )


def _deliver(instance: Instance, image: str, log: Path) -> None:
    push(instance, image, log)
    fetch_image(instance, image)
