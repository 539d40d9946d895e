"""Pages of the site that are made of the code: one for each district, and the way to files beside.

A hook of MkDocs (``mkdocs.yml``); it reads the code and imports none of it.
"""

import ast
import pathlib
import re
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = "optembed_jax"


def districts() -> dict[str, list[str]]:
    """The modules of each folder of the library, by its dotted name; the top first."""
    found: dict[str, list[str]] = {}
    for init in sorted((ROOT / PACKAGE).rglob("__init__.py")):
        folder = init.parent
        name = ".".join(folder.relative_to(ROOT).parts)
        found[name] = sorted(
            f"{name}.{file.stem}" for file in folder.glob("*.py") if file.stem != "__init__"
        )
    return found


def page_of(district: str, modules: list[str]) -> str:
    """The page of a folder in Markdown: what its docstring says, and all its modules."""
    init = ROOT.joinpath(*district.split("."), "__init__.py")
    said = ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) or ""
    title = district.removeprefix(f"{PACKAGE}.")
    parts = [f"# {title}", re.sub(r"``", "`", said)]
    parts += [f"::: {module}\n    options:\n      heading_level: 2" for module in modules]
    return "\n\n".join(parts) + "\n"


def _path(district: str) -> str:
    return f"api/{district.removeprefix(f'{PACKAGE}.').replace('.', '_')}.md"


def on_config(config: Any) -> Any:
    """Put the districts into the navigation."""
    names = sorted(districts(), key=lambda name: (name != PACKAGE, name))
    pages = [{name.removeprefix(f"{PACKAGE}."): _path(name)} for name in names]
    config.nav = [part for part in config.nav if "API" not in part] + [{"API": pages}]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each district."""
    for district, modules in districts().items():
        content = page_of(district, modules)
        files.append(File.generated(config, _path(district), content=content))
    return files
