"""The house: folders say what they may import, and keep to it; no module is in a circle."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("optembed_jax", "experiments")
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
}
# A folder under the package; `experiments` and its benchmarks are mains, and may import all.
DISTRICTS = sorted(
    str(file.parent.relative_to(ROOT)).replace("/", ".")
    for file in [
        *ROOT.glob("optembed_jax/*/**/__init__.py"),
        *ROOT.glob("experiments/run/**/__init__.py"),
    ]
)
DOORS = {"optembed_jax.bundle", "optembed_jax.numpy_bundle"}


def district_of(module):
    """The innermost folder that a module lies in, or the module where it lies in none."""
    folders = [d for d in DISTRICTS if module == d or module.startswith(f"{d}.")]
    return max(folders, key=len, default=module)


def imported(file):
    """Names of this project's modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & FILES.keys() or {node.module}
    return found & FILES.keys()


def may_import(district):
    """What a folder's docstring allows it."""
    said = ast.get_docstring(ast.parse(FILES[district].read_text(encoding="utf-8")))
    names = re.findall(r"``([\w.]+)``", said.split("May import:")[1])
    return {n if n.startswith("optembed_jax") else f"optembed_jax.{n}" for n in names}


def test_the_library_asks_its_top_for_no_name():
    """It imports what is asked for under a lock: two threads would wait for each other."""
    for module, file in FILES.items():
        if module.startswith("optembed_jax."):
            tree = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            tops = [n for n in tree if isinstance(n, ast.ImportFrom) and n.module == PACKAGES[0]]
            names = {alias.name for node in tops for alias in node.names}
            assert names <= {"__version__"}, f"{module} imports {names} of the top"


def test_there_are_districts():
    assert {"optembed_jax.table", "optembed_jax.data.formats", "experiments.run"} <= set(DISTRICTS)


@pytest.mark.parametrize("district", DISTRICTS)
def test_a_folder_says_what_it_is_what_it_offers_and_what_it_may_import(district):
    said = ast.get_docstring(ast.parse(FILES[district].read_text(encoding="utf-8")))
    name = district.rpartition(".")[2]
    assert said.lower().startswith((f"{name}:", "data sets:")), said
    assert "\nOffers " in said and "\nMay import: " in said


@pytest.mark.parametrize("district", DISTRICTS)
def test_a_folder_imports_no_more_than_it_says(district):
    allowed = may_import(district)
    for module, file in FILES.items():
        if district_of(module) != district:
            continue
        for other in imported(file):
            where = {other, district_of(other)}
            top = other.split(".")[0]
            inside = district_of(other) == district or (top == "optembed_jax" and other == top)
            whole = top in allowed
            assert inside or whole or where & allowed, f"{module} imports {other}"


def test_the_ground_imports_nothing_above_it():
    for module in ("errors", "fields", "metrics"):
        assert imported(FILES[f"optembed_jax.{module}"]) <= {"optembed_jax.errors"}


def test_what_may_be_imported_has_no_circle():
    edges = {district: may_import(district) & set(DISTRICTS) for district in DISTRICTS}
    # `data` and the folders in it are told apart by module, see the test of modules.
    edges = {
        d: {o for o in others if not o.startswith("optembed_jax.data")}
        for d, others in edges.items()
    }
    assert not circle(edges)


def test_no_module_is_in_a_circle():
    packages = {name for name, file in FILES.items() if file.name == "__init__.py"}
    edges = {name: imported(file) - packages - {name} for name, file in FILES.items()}
    assert not circle(edges)


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b"}, "b": set()}) == [] and circle({}) == []


def circle(edges):
    """The first circle, its first name repeated at the end; empty where there is none."""
    done = set()

    def visit(name, path):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges.get(name, ())):
            found = visit(other, [*path, name])
            if found:
                return found
        done.add(name)
        return []

    for name in sorted(edges):
        found = visit(name, [])
        if found:
            return found
    return []


def test_the_library_knows_no_flags_and_no_commands():
    for module, file in FILES.items():
        if module.startswith("optembed_jax"):
            assert not {m for m in imported(file) if m.startswith("experiments")}, module
            assert "absl" not in file.read_text(encoding="utf-8").replace("absl-py", ""), module


def test_few_modules_lie_outside_the_folders():
    outside = {m for m in FILES if m.startswith("optembed_jax.")} - set(DISTRICTS)
    outside = {m for m in outside if district_of(m) == m}
    assert (
        outside
        == {f"optembed_jax.{name}" for name in ("errors", "fields", "lazy_names", "metrics")}
        | DOORS
    )
