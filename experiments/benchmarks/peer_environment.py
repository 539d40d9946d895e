"""An environment of others' libraries: made once from pinned versions, apart from the project's."""

import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optembed_jax.errors import InputError

_MADE_OF = ".made_of"


@dataclasses.dataclass(frozen=True)
class PeerEnvironment:
    """What a benchmark's other sides run in.

    Attributes:
      name: of what is in it, in messages.
      requirements: the pinned versions, a file for pip.
      program: what its interpreter runs, as arguments; a job in JSON comes behind them. Asked for
        the task ``check`` it answers with the versions it found, and fails if one is lacking that
        it cannot do without.
      flag: of the benchmark, by which an interpreter is given that has all this already.
      variables: of its processes, beside those of ours.
    """

    name: str
    requirements: pathlib.Path
    program: Sequence[str]
    flag: str
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def make(self, folder: pathlib.Path, say: Callable[[str], None]) -> pathlib.Path:
        """The environment's interpreter; it is made where it is absent or of other versions.

        Args:
          folder: where it is kept.
          say: told once before the long wait.

        Raises:
          InputError: it cannot be made; the message has pip's last word.
        """
        python = python_of(folder)
        content = hashlib.sha256(self.requirements.read_bytes()).hexdigest()
        mark = folder / _MADE_OF
        if python.exists() and mark.exists() and mark.read_text(encoding="utf-8") == content:
            return python
        say(f"making the environment of {self.name} in {folder}: minutes, once")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._install([sys.executable, "-m", "venv", "--clear", str(folder)], folder)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            self._install([*pip, "--requirement", str(self.requirements)], folder)
            mark.write_text(content, encoding="utf-8")  # Last: without it, it is made anew.
        except OSError as error:
            raise InputError(self._cannot(folder, str(error))) from error
        return python

    def check(self, python: str, job: Mapping[str, Any]) -> dict[str, Any]:
        """What an interpreter answers to the task ``check``.

        Raises:
          InputError: it cannot be started, or lacks what the benchmark needs.
        """
        asked = json.dumps({"task": "check", **job})
        try:
            done = subprocess.run(
                [python, *self.program, asked],
                capture_output=True,
                text=True,
                env=self.surroundings(),
            )
        except OSError as error:
            raise InputError(
                f"the interpreter of {self.name} cannot be started ({error}); give another "
                f"{self.flag}=PATH, or leave it out to have an environment made"
            ) from error
        if done.returncode != 0:
            raise InputError(
                f"{python} cannot run {self.name} ({last_line(done.stderr)}); install "
                f"{self.requirements} there, or leave {self.flag} out to have an environment made"
            )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def surroundings(self, threads: int | None = None) -> dict[str, str]:
        """Environment variables of its processes."""
        return {**os.environ, **self.variables, **thread_variables(threads)}

    def _install(self, command: Sequence[str], folder: pathlib.Path) -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise InputError(self._cannot(folder, last_line(done.stderr, done.stdout)))

    def _cannot(self, folder: pathlib.Path, why: str) -> str:
        return (
            f"the environment of {self.name} in {folder} could not be made ({why}); make one of "
            f"{self.requirements} yourself and give its interpreter as {self.flag}=PATH"
        )


def python_of(folder: pathlib.Path) -> pathlib.Path:
    """The interpreter of a virtual environment."""
    return folder / "bin" / "python"


def thread_variables(threads: int | None) -> dict[str, str]:
    """What numeric libraries take the number of their threads from; None says nothing."""
    if threads is None:
        return {}
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(names, str(threads))


def last_line(*texts: str) -> str:
    """The last line of the first text that says something."""
    for text in texts:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines:
            return lines[-1]
    return "it said nothing"
