"""The pinned versions fit the ranges that are promised, at both ends."""

import configparser
import os
import pathlib
import shutil
import subprocess

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = pathlib.Path(__file__).parents[1]


def pinned(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all([one.operator for one in pin.specifier] == ["=="] for pin in pins)
    return {canonicalize_name(p.name): Version(next(iter(p.specifier)).version) for p in pins}


def required():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    texts = [setup["options"]["install_requires"], extras["dev"]]
    lines = [line.split("#")[0].strip() for text in texts for line in text.splitlines()]
    return [Requirement(line) for line in lines if line]


@pytest.mark.parametrize("constraints", ["constraints.txt", "constraints-newest.txt"])
def test_every_requirement_is_pinned_within_its_range(constraints):
    pins = pinned(constraints)
    found = {str(need): pins.get(canonicalize_name(need.name)) for need in required()}
    assert len(found) > 15 and None not in found.values()
    wrong = [
        need for need in required() if pins[canonicalize_name(need.name)] not in need.specifier
    ]
    assert not wrong


def test_the_newest_end_is_newer():
    old, new = pinned("constraints.txt"), pinned("constraints-newest.txt")
    assert new["jax"] > old["jax"] and new["numpy"] >= old["numpy"] and new["flax"] >= old["flax"]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    "answer, status, runs", [("yes", 0, True), ("command not found", 127, False), ("", 1, False)]
)
def test_the_newest_end_is_tested_where_its_interpreter_runs(tmp_path, answer, status, runs):
    """Version managers put shims on the path that end with an error: found is not enough."""
    shim = tmp_path / "python3.13"
    shim.write_text(f'#!/bin/sh\necho "{answer}"\nexit {status}\n', encoding="utf-8")
    shim.chmod(0o755)
    dry = subprocess.run(
        ["make", "--dry-run", "test"],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "MAKEFLAGS": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (".venv-newest/bin/python -m pytest" in dry.stdout) == runs
    assert ("No python3.13 runs here" in dry.stdout) != runs
