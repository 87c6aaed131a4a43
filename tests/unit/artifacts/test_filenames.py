"""Which file names an artifact may have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.artifacts.errors import ArtifactInvalid
from taskfleet.artifacts.filenames import check_name, is_served

REFUSED = [
    "../adapter_config.json",
    "/etc/passwd.json",
    "a/b.json",
    "a\\b.json",
    ".hidden.json",
    "-rf.json",
    "",
    ".",
    "..",
    "x.bin",
    "x.PKL",
    "x.pt",
    "model.pth",
    "handler.py",
    "lib.so",
    "a.json\n",
    "a\0.json",
    "unknown.exotic",
    "x" * 300 + ".json",
    "ünïcode.json",
]


@pytest.mark.parametrize("name", REFUSED)
def test_dangerous_name_is_refused(name: str) -> None:
    with pytest.raises(ArtifactInvalid):
        check_name(name)


@pytest.mark.parametrize(
    "name", ["adapter_config.json", "model-00001-of-00002.safetensors", "tokenizer.model", "README.md", "LICENSE", "golden.jsonl"]
)
def test_name_of_data_is_accepted(name: str) -> None:
    check_name(name)


@given(st.text(max_size=40))
def test_accepted_name_stays_in_its_folder(name: str) -> None:
    try:
        check_name(name)
    except ArtifactInvalid:
        return
    assert "/" not in name
    assert not name.startswith((".", "-"))
    assert name.isascii()
    assert name.isprintable()


@pytest.mark.parametrize(("name", "served"), [("config.json", True), ("golden.jsonl", False), ("handler.py", False)])
def test_engines_get_what_they_have_a_use_for(name: str, served: bool) -> None:  # noqa: FBT001  (a table's column)
    assert is_served(name) is served
