"""A base that is mounted as an image volume: verified in place, and refused with what to do about it."""

import threading
import time
from pathlib import Path

import pytest

from taskfleet.agent.staging import Staging
from taskfleet.api.agent import ArtifactKind, Limits, ResolveRequest
from taskfleet.api.taskmodel import Base
from taskfleet.artifacts import mounted_base
from taskfleet.artifacts.access import Access, TimeLimit
from taskfleet.artifacts.content_manifest import content_manifest, digest_of
from taskfleet.artifacts.download import sha256_of
from taskfleet.artifacts.errors import ArtifactInvalid, DigestMismatch
from taskfleet.artifacts.store import Shelf, Store
from tests.unit.agent.builders import no_peers
from tests.unit.artifacts.model_files import write_base

LIMITS = Limits(max_rank=64, max_adapter_bytes=10**6, max_base_bytes=10**8)
SOURCE = "oci://registry.example/tiny"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_base(tmp_path / "image")


@pytest.fixture
def staging(tmp_path: Path, image: Path) -> Staging:
    """That of a pod whose kubelet has mounted the base."""
    store = Store(tmp_path / "store")
    store.prepare()
    return Staging(store, Access(credentials_directory=tmp_path), no_peers(), seconds=30, patience=30, base_image=image)


def content_digest(folder: Path) -> str:
    return digest_of(content_manifest({path.name: sha256_of(path) for path in folder.iterdir()}))


def time_limit() -> TimeLimit:
    return TimeLimit(time.monotonic() + 30, threading.Event())


async def test_it_is_resolved_and_verified_in_place(staging: Staging, image: Path) -> None:
    digest = (await staging.resolve(ResolveRequest(kind=ArtifactKind.BASE, source=SOURCE, version="v1"), LIMITS)).digest
    assert digest == content_digest(image)
    shapes = await staging.base(Base(source=SOURCE, revision="v1"), digest, LIMITS)
    assert shapes.layers
    assert staging.store.digests(Shelf.BASE) == [], "nothing is copied"


async def test_other_bytes_than_those_that_were_resolved_never_reach_the_engine(staging: Staging, image: Path) -> None:
    digest = mounted_base.digest(image, max_bytes=10**8, time=time_limit())
    (image / "generation_config.json").write_text('{"temperature": 2}')
    with pytest.raises(DigestMismatch, match="the tag has moved"):
        await staging.base(Base(source=SOURCE, revision="v1"), digest, LIMITS)


def test_empty_mount_says_what_the_cluster_lacks(tmp_path: Path) -> None:
    for folder in (tmp_path / "absent", tmp_path / "empty"):
        with pytest.raises(ArtifactInvalid, match="container runtime must have image volumes"):
            mounted_base.digest(folder, max_bytes=10**8, time=time_limit())
        (tmp_path / "empty").mkdir(exist_ok=True)


def test_image_holds_the_base_and_nothing_else(image: Path) -> None:
    (image / "modeling.py").write_text("import os")
    with pytest.raises(ArtifactInvalid, match=r"modeling\.py"):
        mounted_base.digest(image, max_bytes=10**8, time=time_limit())


def test_links_and_folders_in_the_image_are_refused(image: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (image / "secret.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(ArtifactInvalid, match="no regular file"):
        mounted_base.digest(image, max_bytes=10**8, time=time_limit())


def test_base_above_the_limit_is_refused(image: Path) -> None:
    with pytest.raises(ArtifactInvalid, match="more than 10 bytes"):
        mounted_base.digest(image, max_bytes=10, time=time_limit())
