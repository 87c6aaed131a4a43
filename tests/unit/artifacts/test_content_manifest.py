"""The digest of files is what anybody can compute with sha256sum."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from taskfleet.artifacts.content_manifest import content_manifest, digest_of, read
from taskfleet.artifacts.errors import ArtifactInvalid

ONE, OTHER = "1" * 64, "2" * 64


def test_manifest_is_what_sha256sum_prints(tmp_path: Path) -> None:
    contents = {"config.json": b"{}", "Z.txt": b"", "a-1.safetensors": b"x" * 1000, "a.safetensors": b"\0"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    manifest = content_manifest(hashes)
    for command, printed in (("sha256sum *", manifest.decode()), ("sha256sum * | sha256sum", f"{digest_of(manifest)[7:]}  -\n")):
        told = subprocess.run(["sh", "-c", f"export LC_ALL=C; {command}"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert told.stdout == printed
    assert read(manifest) == hashes


def test_digest_knows_names_and_bytes_apart() -> None:
    sets = ({"a": ONE}, {"b": ONE}, {"a": OTHER}, {"a": ONE, "b": OTHER}, {"a": OTHER, "b": ONE})
    assert len({digest_of(content_manifest(hashes)) for hashes in sets}) == 5


@pytest.mark.parametrize(
    "text", [f"{OTHER}  b\n{ONE}  a\n", f"{ONE}  a", f"{ONE} a\n", f"{ONE}  a\n{ONE}  a\n", f"{ONE}  a b\n", "\n", f"{'G' * 64}  a\n"]
)
def test_other_texts_are_no_manifests(text: str) -> None:
    with pytest.raises(ArtifactInvalid):
        read(text.encode())
