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
OF_DATA_AND_TRAINING = {"tensorflow_datasets", "array_record", "pandas", "orbax", "matplotlib"}


def told_to_type_checkers(tree):
    (block,) = (n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test)[0] == "T")
    aliases = [(node.module, alias) for node in block.body for alias in node.names]
    return {alias.asname or alias.name: (module, alias.name) for module, alias in aliases}


@pytest.mark.parametrize(("package", "least"), [(optembed_jax, 50), (optembed_jax.data, 15)])
def test_type_checkers_are_told_what_there_is_at_run_time(package, least):
    tree = ast.parse(pathlib.Path(package.__file__).read_text(encoding="utf-8"))
    told = told_to_type_checkers(tree)
    assert sorted(told) == sorted(package.__all__) and len(told) > least
    # They read no list that is computed, and would take a star for nothing.
    (listed,) = (n for n in tree.body if ast.unparse(n).startswith("__all__"))
    assert sorted(ast.literal_eval(listed.value)) == sorted(told)
    for name, (module, named) in told.items():
        assert name == named
        assert getattr(package, name) is getattr(importlib.import_module(module), name)
    assert set(told) <= set(dir(package))


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


@pytest.mark.parametrize("module", ["optembed_jax.bundle", "experiments.predict"])
def test_a_server_loads_nothing_that_prepares_or_trains(module):
    assert not loaded(f"import {module}") & OF_DATA_AND_TRAINING


@pytest.mark.parametrize(
    "code",
    [
        "from optembed_jax import *\nassert fit.__module__ == 'optembed_jax.training.fit'",
        # Whatever is asked for first, all is there.
        "import optembed_jax as oe; oe.search.loop.evolve, oe.table.stand_in.folded",
        "import optembed_jax as oe; oe.Fields, oe.init_table; oe.models.forward, oe.training.fit",
        "import optembed_jax; optembed_jax.data.prefetch_to_device.__name__",
        "from optembed_jax.data import *\nassert Reader and prefetch_to_device",
    ],
)
def test_what_needs_jax_loads_it_when_it_is_asked_for(code):
    assert {"jax"} <= loaded(code)


def test_names_are_shown_where_they_can_be_had():
    assert {"fit", "Fields", "data"} <= set(dir(optembed_jax))
    code = "import sys; sys.modules['jax'] = None\nimport optembed_jax, inspect"
    code += "\nassert 'fit' not in dir(optembed_jax); inspect.getmembers(optembed_jax)"
    assert "jaxlib" not in loaded(code)


@pytest.mark.parametrize("name", ["nothing", "_nothing", "no.thing", ".data", "data ", ""])
@pytest.mark.parametrize("package", [optembed_jax, optembed_jax.data])
def test_what_is_not_there_is_an_attribute_error(package, name):
    assert not hasattr(package, name)


@pytest.mark.parametrize(
    "names",
    [
        ["init_params", "Table", "data", "fit", "search", "Phase", "metrics"],
        ["data.Reader", "data.prepare", "fit", "Fields", "data.raw", "data.prefetch_to_device"],
    ],
)
def test_threads_that_ask_at_once_get_what_they_ask_for(names):
    code = (
        f"names = {names}"
        + """
import functools
import sys
import threading
import optembed_jax as oe
sys.setswitchinterval(1e-6)
found, together = {}, threading.Barrier(len(names))
def ask(name):
    together.wait()
    found[name] = functools.reduce(getattr, name.split("."), oe)
threads = [threading.Thread(target=ask, args=(name,)) for name in names]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert found.keys() == set(names), found
"""
    )
    assert {"flax", "jax"} <= loaded(code + "\nimport jax; jax.jit(lambda x: x)(1)")


@pytest.mark.parametrize("name", ["data.Reader", "fit"])
def test_a_package_that_is_missing_is_told_with_what_to_do(name):
    code = "import sys; sys.modules['pyarrow'] = sys.modules['jax'] = None\nimport optembed_jax\n"
    code += f"try: optembed_jax.{name}\nexcept ImportError as error: told = str(error)\n"
    loaded(code + "assert 'needs a package that is not installed' in told and 'pip' in told, told")
