"""The environment in which the tiny model is trained: PyTorch, transformers and peft, pinned, made once and kept outside the checkout.

`python -m tests.engine.training` makes it where it is missing and prints its Python: `$(python -m tests.engine.training) examples/tiny-model/train.py adapters`.
"""

import hashlib
import shutil
import sys
from pathlib import Path

from tests.engine.environment import cache_folder, find_uv, only_one, run_or_explain

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements" / "train.txt"


def ensure_training() -> Path:
    """The Python of the environment, which is named by what is pinned. Raises EngineEnvironmentError."""
    pinned = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = cache_folder() / "training" / f"cp{sys.version_info.major}{sys.version_info.minor}-{pinned}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    python, complete = folder / "bin" / "python", folder / "complete"
    with only_one(folder.parent / ".lock"):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            advice = "Is the package index in reach? Its address comes from uv's own settings (UV_INDEX_URL and others)."
            run_or_explain([find_uv(), "venv", "--quiet", "--python", sys.executable, str(folder)], advice)
            run_or_explain(
                [find_uv(), "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", str(REQUIREMENTS)], advice
            )
            complete.touch()
    return python


if __name__ == "__main__":
    print(ensure_training())
