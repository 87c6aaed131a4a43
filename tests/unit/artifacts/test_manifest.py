"""Manifests that make no sense."""

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from taskfleet.artifacts import manifest
from taskfleet.artifacts.errors import ArtifactError
from taskfleet.artifacts.manifest import TITLE

DIGEST = "sha256:" + "a" * 64

SCALARS: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(DIGEST) | st.just([]) | st.just({})
)
LAYERS = st.fixed_dictionaries(
    {},
    optional={
        "digest": st.just(DIGEST) | SCALARS,
        "size": st.just(5) | SCALARS,
        "mediaType": st.sampled_from(["application/octet-stream", "application/vnd.oci.image.layer.v1.tar", "x+gzip"]) | SCALARS,
        "annotations": SCALARS | st.fixed_dictionaries({TITLE: st.sampled_from(["a.json", "b.safetensors", "../x", "x.bin"]) | SCALARS}),
    },
)
MANIFESTS = st.fixed_dictionaries({}, optional={"layers": st.lists(LAYERS, max_size=4) | SCALARS, "mediaType": SCALARS})


@given(MANIFESTS)
def test_manifest_is_either_refused_or_names_only_allowed_files_within_the_limits(content: dict[str, object]) -> None:
    with contextlib.suppress(ArtifactError):
        layout = manifest.read(json.dumps(content).encode(), max_files=3, max_bytes=12)
        assert set(layout.files) <= {"a.json", "b.safetensors"}
        assert bool(layout.files) != (layout.tar is not None)
        assert sum(blob.size for blob in layout.files.values()) <= 12


@given(st.binary(max_size=100))
def test_no_bytes_raise_anything_but_an_artifact_error(text: bytes) -> None:
    with contextlib.suppress(ArtifactError):
        assert manifest.read(text, max_files=3, max_bytes=12)
