import hashlib
import sys

import pytest

from experiments.benchmarks.peer_environment import (
    PeerEnvironment,
    last_line,
    python_of,
    thread_variables,
)
from optembed_jax.errors import InputError


def environment(tmp_path, program="print('{}')"):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("torch==2.13.0\n", encoding="utf-8")
    return PeerEnvironment("the tables", requirements, ("-c", program), "--tables_python")


def make_by_hand(folder, content):
    python_of(folder).parent.mkdir(parents=True, exist_ok=True)
    python_of(folder).touch()
    (folder / ".made_of").write_text(content, encoding="utf-8")


def test_an_environment_of_the_same_versions_is_taken_as_it_is(tmp_path):
    peers, folder = environment(tmp_path), tmp_path / "env"
    make_by_hand(folder, hashlib.sha256(b"torch==2.13.0\n").hexdigest())
    said = []
    assert peers.make(folder, said.append) == folder / "bin" / "python"
    assert not said


def test_one_of_other_versions_is_made_anew_and_marked_last(tmp_path, monkeypatch):
    peers, folder = environment(tmp_path), tmp_path / "env"
    make_by_hand(folder, "of other versions")
    commands, said = [], []

    def install(self, command, where):
        commands.append(command)
        assert (folder / ".made_of").read_text(encoding="utf-8") == "of other versions"

    monkeypatch.setattr(PeerEnvironment, "_install", install)
    peers.make(folder, said.append)
    assert commands[0][1:] == ["-m", "venv", "--clear", str(folder)]
    assert commands[1][0] == str(python_of(folder))
    assert commands[1][-2:] == ["--requirement", str(peers.requirements)]
    assert len(said) == 1 and str(folder) in said[0]
    commands.clear()
    peers.make(folder, said.append)
    assert not commands


def test_an_environment_that_is_made_of_the_same_requirements_is_used(tmp_path):
    peers = environment(tmp_path)
    peers.requirements.write_text("")
    said = []
    python = peers.make(tmp_path / "env", said.append)
    assert python.exists() and len(said) == 1 and str(tmp_path / "env") in said[0]
    assert peers.make(tmp_path / "env", said.append) == python and len(said) == 1


def test_requirements_that_cannot_be_installed_are_told_and_tried_again(tmp_path, monkeypatch):
    peers = environment(tmp_path)
    peers.requirements.write_text(f"{tmp_path}/no_such.whl\n")
    commands, install = [], PeerEnvironment._install

    def with_the_pip_at_hand(self, command, where):
        """An environment of one's own takes seconds to make, and its pip says the same."""
        commands.append(command)
        if "venv" in command:
            make_by_hand(where, "of other versions")
        else:
            install(self, [sys.executable, *command[1:]], where)

    monkeypatch.setattr(PeerEnvironment, "_install", with_the_pip_at_hand)
    for attempt in (1, 2):
        said = []
        with pytest.raises(InputError, match=r"could not be made \(.*no_such.whl") as info:
            peers.make(tmp_path / "env", said.append)
        assert "\n" not in str(info.value)
        assert len(said) == 1 and len(commands) == 2 * attempt


@pytest.mark.parametrize("place", ["a file", "no pip"])
def test_one_that_cannot_be_made_is_told_in_one_line(place, tmp_path, monkeypatch):
    peers, folder = environment(tmp_path), tmp_path / "taken" / "env"
    if place == "a file":
        folder.parent.touch()
    else:
        monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InputError, match=r"could not be made .* --tables_python=PATH") as refused:
        peers.make(folder, lambda text: None)
    assert "\n" not in str(refused.value)
    assert not (folder / ".made_of").exists()


def test_the_check_asks_the_program_and_passes_its_answer_on(tmp_path):
    program = 'import os, sys; print(sys.argv[1][:-1] + f\', "mine": {os.environ["A"]}}}\')'
    peers = environment(tmp_path, program)
    peers = PeerEnvironment(peers.name, peers.requirements, peers.program, peers.flag, {"A": "7"})
    found = peers.check(sys.executable, {"sides": ["x"]})
    assert found == {"task": "check", "sides": ["x"], "mine": 7}


def test_what_the_interpreter_lacks_is_told_in_one_line(tmp_path):
    peers = environment(tmp_path, "import no_such_library")
    with pytest.raises(InputError, match=r"cannot run the tables .*no_such_library") as refused:
        peers.check(sys.executable, {})
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="cannot be started"):
        peers.check(str(tmp_path / "nowhere"), {})


def test_threads_are_told_to_every_library_or_to_none():
    assert set(thread_variables(3).values()) == {"3"}
    assert thread_variables(None) == {}


def test_the_last_word_is_of_the_first_that_says_something():
    assert last_line("one\n two \n\n", "three") == "two"
    assert last_line(" \n", "three") == "three"
    assert last_line("", "") == "it said nothing"
