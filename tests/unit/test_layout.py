"""The repository's own rules that no linter knows."""

import operator as standard_operator
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_operator_folder_never_shadows_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert standard_operator.__file__ != str(ROOT / "operator" / "__init__.py")
    assert standard_operator.add(1, 1) == 2


def test_no_lock_file_that_records_download_addresses() -> None:
    assert not [path for path in tracked() if path.name in {"uv.lock", "poetry.lock", "package-lock.json"}]


def test_pinned_requirements_carry_hashes_and_name_no_index() -> None:
    files = [path for path in sorted((ROOT / "requirements").glob("*.txt")) if ".overrides." not in path.name]
    assert files
    for path in files:
        text = path.read_text()
        assert not re.search(r"^(--index-url|--extra-index-url|--find-links|-i |-f )|https?://", text, re.MULTILINE), path.name
        pins = re.findall(r"^[A-Za-z0-9][^\s#]*==", text, re.MULTILINE)
        assert pins, path.name
        assert text.count("--hash=sha256:") >= len(pins), path.name
