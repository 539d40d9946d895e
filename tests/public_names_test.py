"""What `optembed_jax` offers: told to type checkers and at run time alike, imported when asked."""

import ast
import importlib
import pathlib
import subprocess
import sys

import pytest

import optembed_jax

SOURCE = pathlib.Path(optembed_jax.__file__)
HEAVY = {"jax", "flax", "optax", "orbax", "scipy", "matplotlib"}


def told_to_type_checkers():
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    (block,) = (n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test)[0] == "T")
    return {alias.asname: (node.module, alias.name) for node in block.body for alias in node.names}


def test_type_checkers_are_told_what_there_is_at_run_time():
    told = told_to_type_checkers()
    assert sorted(told) == optembed_jax.__all__ and len(told) > 50
    for name, (module, named) in told.items():
        assert name == named
        assert getattr(optembed_jax, name) is getattr(importlib.import_module(module), name)


def test_no_name_is_that_of_a_module():
    """Whoever imports such a module would put it in the name's place."""
    modules = {path.stem for path in SOURCE.parent.iterdir()}
    assert "search" in modules and not modules & set(optembed_jax.__all__)


def loaded(code):
    """The packages that are loaded once the code has run, in an interpreter of its own."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import optembed_jax; dir(optembed_jax); optembed_jax.Fields",
        "from optembed_jax.data import prepare, Reader",
        "import optembed_jax as oe; oe.data.prepare, oe.errors.InputError",
        "import optembed_jax.numpy_bundle",
        "import experiments.prepare_data",
    ],
)
def test_what_needs_no_jax_does_not_load_it(code):
    assert not loaded(code) & HEAVY


def test_what_needs_jax_loads_it_when_it_is_asked_for():
    code = "from optembed_jax import *\nassert fit.__module__ == 'optembed_jax.training.fit'"
    assert {"jax", "flax", "optax", "orbax"} <= loaded(code)
    assert "fit" in dir(optembed_jax)
