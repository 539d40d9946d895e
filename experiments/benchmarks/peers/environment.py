"""The peers' own environment: made once from pinned versions, apart from the project's."""

import hashlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from optembed_jax.errors import InputError

_HERE = pathlib.Path(__file__).parent
REQUIREMENTS = _HERE / "requirements.txt"
PROGRAM = _HERE / "process"
"""What the peers' interpreter runs."""

_MADE_OF = ".made_of"


def python_of(folder: pathlib.Path) -> pathlib.Path:
    """The interpreter of a virtual environment."""
    return folder / "bin" / "python"


def make(folder: pathlib.Path, say: Callable[[str], None]) -> pathlib.Path:
    """The environment's interpreter; the environment is made where it is absent or of others.

    Args:
      folder: where it is kept.
      say: told once before the long wait.

    Raises:
      InputError: it cannot be made; the message has pip's last word.
    """
    python = python_of(folder)
    content = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    mark = folder / _MADE_OF
    if python.exists() and mark.exists() and mark.read_text(encoding="utf-8") == content:
        return python
    say(f"peers: making their environment in {folder} from {REQUIREMENTS.name}: minutes, once")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _step([sys.executable, "-m", "venv", "--clear", str(folder)], folder)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _step([*pip, "--requirement", str(REQUIREMENTS)], folder)
    mark.write_text(content, encoding="utf-8")  # Last: without it the next call begins anew.
    return python


def check(python: str, sides: Sequence[str]) -> dict[str, str]:
    """The versions of what an interpreter has of the sides.

    Raises:
      InputError: it cannot be started, or cannot import what a side needs.
    """
    job = json.dumps({"task": "check", "sides": list(sides)})
    try:
        done = subprocess.run(
            [python, str(PROGRAM), job], capture_output=True, text=True, env=surroundings()
        )
    except OSError as error:
        raise InputError(
            f"the peers' interpreter cannot be started ({error}); give another "
            "--peers_python=PATH, or leave it out to have an environment made"
        ) from error
    if done.returncode != 0:
        raise InputError(
            f"{python} cannot run the peers ({last_line(done.stderr)}); install {REQUIREMENTS} "
            "there, or leave --peers_python out to have an environment made"
        )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def surroundings(threads: int | None = None) -> dict[str, str]:
    """Environment variables of a peer's process.

    deepctr-torch asks the package index for its newest version whenever it is imported; here that
    request goes to a closed port, so that it ends at once.
    """
    closed = "http://127.0.0.1:9"
    apart = {"HTTPS_PROXY": closed, "https_proxy": closed, "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **apart, **thread_variables(threads)}


def thread_variables(threads: int | None) -> Mapping[str, str]:
    """What numeric libraries take the number of their threads from; None says nothing."""
    if threads is None:
        return {}
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(names, str(threads))


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def _step(command: Sequence[str], folder: pathlib.Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        said = last_line(done.stderr) if done.stderr.strip() else last_line(done.stdout)
        raise InputError(
            f"the peers' environment in {folder} could not be made ({said}); make one of "
            f"{REQUIREMENTS} yourself and give its interpreter as --peers_python=PATH"
        )
