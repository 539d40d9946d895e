"""What runs in the peers' environment imports nothing that is not there."""

import ast
import pathlib
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[4] / "experiments" / "benchmarks"
PROGRAM = [*BENCHMARKS.glob("sparse_peers/*.py")]
SHARED = [BENCHMARKS / "timed_steps.py", BENCHMARKS / "torch_supernet.py"]
INSTALLED = {"numpy", "torch", "fbgemm_gpu"}


def imported(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("file", PROGRAM + SHARED, ids=lambda file: file.stem)
def test_it_imports_what_is_there(file):
    ours = {f"experiments.benchmarks.{f.stem}" for f in SHARED}
    for name in imported(file):
        is_ours = name in ours or name.startswith("experiments.benchmarks.sparse_peers")
        top = name.split(".")[0]
        assert is_ours or top in INSTALLED or top in sys.stdlib_module_names, name


def test_there_is_a_program_with_pinned_versions():
    assert BENCHMARKS / "sparse_peers" / "__main__.py" in PROGRAM
    lines = (BENCHMARKS / "sparse_peers" / "requirements.txt").read_text(encoding="utf-8")
    wanted = [line for line in lines.splitlines() if line and not line.startswith("#")]
    assert wanted and all("==" in line for line in wanted)
