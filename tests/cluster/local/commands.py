"""Programs of the machine, run to their end, with failures that say what was run and what it answered."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .failures import ClusterError


def run(
    command: Sequence[str | Path],
    *,
    advice: str = "",
    log: Path | None = None,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout: float = 600,
) -> str:
    """Runs a program and gives its standard output.

    With `log`, both outputs are appended there instead and the answer is empty. `timeout` is in seconds. Raises ClusterError on a non-zero exit,
    on a missing program and on the timeout.
    """
    words = [str(word) for word in command]
    shown = " ".join(words[:8]) + (" …" if len(words) > 8 else "")
    try:
        if log is None:
            done = subprocess.run(
                words,
                input=stdin or "",
                capture_output=True,
                text=True,
                errors="replace",
                env=environment,
                cwd=folder,
                timeout=timeout,
                check=False,
            )
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as sink:
                done = subprocess.run(
                    words, input=stdin or "", stdout=sink, stderr=sink, text=True, env=environment, cwd=folder, timeout=timeout, check=False
                )
    except FileNotFoundError as error:
        raise ClusterError(
            f"`{words[0]}` is not installed", advice=advice or "install it, or run as root on Debian so that it can be installed"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"`{shown}` did not end within {timeout:.0f} s", advice=advice, log=log) from error
    if done.returncode != 0:
        answer = "" if log else "\n" + ((done.stderr or "") + (done.stdout or ""))[-3000:].rstrip()
        raise ClusterError(f"`{shown}` ended with code {done.returncode}{answer}", advice=advice, log=log)
    return done.stdout or ""
