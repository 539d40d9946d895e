import stat

import pytest

from experiments.benchmarks.peers import environment
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
        environment.check(str(tmp_path / "nowhere" / "python"), ["fuxictr"])
    assert "--peers_python=PATH" in one_line(info)


def test_an_interpreter_without_the_peers_is_told_in_a_line(tmp_path):
    broken = program(
        tmp_path / "python", "echo 'Traceback' >&2; echo 'No module named x' >&2; exit 1"
    )
    with pytest.raises(InputError, match=r"No module named x.*requirements\.txt") as info:
        environment.check(broken, ["fuxictr"])
    one_line(info)


def test_what_an_interpreter_answers_is_given_back(tmp_path):
    good = program(tmp_path / "python", 'echo \'{"fuxictr": "1"}\'')
    assert environment.check(good, ["fuxictr"]) == {"fuxictr": "1"}


def test_an_environment_that_is_made_of_the_same_requirements_is_used(tmp_path, monkeypatch):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("")
    monkeypatch.setattr(environment, "REQUIREMENTS", requirements)
    said = []
    python = environment.make(tmp_path / "env", said.append)
    assert python.exists() and len(said) == 1 and str(tmp_path / "env") in said[0]
    assert environment.make(tmp_path / "env", said.append) == python and len(said) == 1
    requirements.write_text("# others\n")
    environment.make(tmp_path / "env", said.append)
    assert len(said) == 2


def test_requirements_that_cannot_be_installed_are_told_and_tried_again(tmp_path, monkeypatch):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"{tmp_path}/no_such.whl\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", requirements)
    for _ in range(2):
        said = []
        with pytest.raises(InputError, match="could not be made") as info:
            environment.make(tmp_path / "env", said.append)
        one_line(info)
        assert len(said) == 1


def test_every_requirement_is_pinned():
    lines = environment.REQUIREMENTS.read_text().splitlines()
    kept = [line for line in lines if line and not line.startswith("#")]
    assert kept and all("==" in line for line in kept)
    for side in ("fuxictr", "deepctr-torch", "lightgbm", "torch"):
        assert any(line.startswith(f"{side}==") for line in kept)


def test_the_surroundings_say_how_many_threads_only_if_told():
    assert environment.surroundings(3)["OMP_NUM_THREADS"] == "3"
    assert environment.thread_variables(None) == {}


@pytest.mark.parametrize("text, last", [("", "it said nothing"), ("a\n b \n\n", "b")])
def test_the_last_line(text, last):
    assert environment.last_line(text) == last


def test_the_program_imports_none_of_ours():
    for file in environment.PROGRAM.glob("*.py"):
        text = file.read_text()
        assert "optembed_jax" not in text and "import jax" not in text, file
