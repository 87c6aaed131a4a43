"""Which files an artifact may have. Adapters and bases are data; what could be run, or read as something else, is refused by name already."""

import re

from taskfleet.artifacts.errors import ArtifactInvalid

# Plain names only: no folders, no leading dot or dash, nothing that a shell or a terminal would take for something else.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,199}")
_DATA = (".safetensors", ".json", ".txt", ".jinja", ".model", ".md")
# Golden sets: what evaluations read, and no engine. Bases leave them out as ever, so that the digests of their files stay.
_GOLDEN = (".jsonl",)
_UNREAD = frozenset({"LICENSE", "NOTICE", "README", "USE_POLICY"})
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5")
_CODE = (".py", ".pyc", ".pyd", ".so", ".sh", ".js", ".exe", ".dll", ".whl")


def is_served(name: str) -> bool:
    """Has an engine a use for a file of this name?"""
    try:
        check_name(name)
    except ArtifactInvalid:
        return False
    return not name.lower().endswith(_GOLDEN)


def check_name(name: str) -> None:
    """Raises ArtifactInvalid for a name that no file of an artifact may have."""
    if not _NAME.fullmatch(name):
        raise ArtifactInvalid(f"file name {name!r} is not allowed: plain names without folders only")
    lower = name.lower()
    if lower.endswith(_PICKLES):
        raise ArtifactInvalid(f"file {name!r} may hold a pickle, which can run code; only safetensors are served")
    if lower.endswith(_CODE):
        raise ArtifactInvalid(f"file {name!r} is code; adapters and bases are data")
    if not lower.endswith((*_DATA, *_GOLDEN)) and name not in _UNREAD:
        raise ArtifactInvalid(f"file {name!r} is of a type that is not served; allowed are {', '.join((*_DATA, *_GOLDEN))}")
