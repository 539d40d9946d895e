import os
import stat

import pytest

from experiments.benchmarks.peers.environment import ENVIRONMENT, PROGRAM
from optembed_jax.errors import InputError


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def one_line(info):
    assert "\n" not in str(info.value)
    return str(info.value)


def test_an_interpreter_that_is_not_there_is_told_in_a_line(tmp_path):
    with pytest.raises(InputError, match="cannot be started") as info:
        ENVIRONMENT.check(str(tmp_path / "nowhere" / "python"), {"sides": ["fuxictr"]})
    assert "--peers_python=PATH" in one_line(info)


def test_an_interpreter_without_the_peers_is_told_in_a_line(tmp_path):
    broken = program(
        tmp_path / "python", "echo 'Traceback' >&2; echo 'No module named x' >&2; exit 1"
    )
    with pytest.raises(InputError, match=r"No module named x.*requirements\.txt") as info:
        ENVIRONMENT.check(broken, {"sides": ["fuxictr"]})
    one_line(info)


def test_what_an_interpreter_answers_is_given_back(tmp_path):
    good = program(tmp_path / "python", 'echo \'{"fuxictr": "1"}\'')
    assert ENVIRONMENT.check(good, {"sides": ["fuxictr"]}) == {"fuxictr": "1"}


def test_every_requirement_is_pinned():
    lines = ENVIRONMENT.requirements.read_text().splitlines()
    kept = [line for line in lines if line and not line.startswith("#")]
    assert kept and all("==" in line for line in kept)
    for side in ("fuxictr", "deepctr-torch", "lightgbm", "torch"):
        assert any(line.startswith(f"{side}==") for line in kept)


def test_the_surroundings_say_how_many_threads_only_if_told():
    assert ENVIRONMENT.surroundings(3)["OMP_NUM_THREADS"] == "3"
    assert "OMP_NUM_THREADS" not in set(ENVIRONMENT.surroundings()) - set(os.environ)


def test_the_program_imports_none_of_ours():
    for file in PROGRAM.glob("*.py"):
        text = file.read_text()
        assert "optembed_jax" not in text and "import jax" not in text, file
