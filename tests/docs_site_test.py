"""The site builds without a warning, its links lead somewhere, and what is wanted is near."""

import html.parser
import importlib.util
import os
import pathlib
import subprocess
import sys
import urllib.parse

import pytest

import optembed_jax

ROOT = pathlib.Path(__file__).parents[1]
MISSING = [name for name in ("mkdocs", "mkdocstrings") if importlib.util.find_spec(name) is None]
needs_docs = pytest.mark.skipif(bool(MISSING), reason=f"the extra docs is not installed: {MISSING}")


class Page(html.parser.HTMLParser):
    """Where a page's links lead, and what in it can be led to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.names = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.names |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag in ("a", "img", "link") and (to := found.get("href") or found.get("src")):
            self.links.append(to)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", f"--site-dir={folder}"]
    done = subprocess.run(line, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        path.relative_to(folder): Page(path.read_text(encoding="utf-8"))
        for path in folder.rglob("*.html")
    } | {
        path.relative_to(folder): None
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".html"
    }


def target_of(page, link):
    """The file in the site that a link of a page leads to, and the name in it; None if outside."""
    parts = urllib.parse.urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    if not parts.path:
        return page, parts.fragment
    path = pathlib.PurePosixPath(os.path.normpath(page.parent / urllib.parse.unquote(parts.path)))
    is_folder = parts.path.endswith("/") or not path.suffix
    return pathlib.Path(path / "index.html" if is_folder else path), parts.fragment


def test_where_a_link_leads():
    here = pathlib.Path("table/index.html")
    assert target_of(here, "https://example.org/x") is None
    assert target_of(here, "#rules") == (here, "rules")
    assert target_of(here, "../data/#bad-rows") == (pathlib.Path("data/index.html"), "bad-rows")
    assert target_of(here, "..") == (pathlib.Path("index.html"), "")
    assert target_of(here, "../a%20b.svg") == (pathlib.Path("a b.svg"), "")
    page = Page('<h2 id="rules">x</h2><a href="../data/">y</a><img src="z.png">')
    assert page.names == {"rules"} and page.links == ["../data/", "z.png"]


@needs_docs
def test_every_link_leads_to_a_page_and_a_place_in_it(site):
    dead = []
    for page, content in site.items():
        if content is None or page.name == "404.html":  # Which stands at every address.
            continue
        for link in content.links:
            found = target_of(page, link)
            if found is None:
                continue
            file, name = found
            named = site[file].names if site.get(file) is not None else set()
            if file not in site or (name and name not in named):
                dead.append((str(page), link))
    assert sum(content is not None for content in site.values()) > 30
    assert not dead


@needs_docs
@pytest.mark.parametrize(
    ("page", "place"),
    [
        ("own_table/index.html", None),
        ("serving/index.html", "in-python"),
        ("compose/index.html", "a-backbone-of-your-own"),
    ],
)
def test_what_a_reader_wants_is_two_clicks_away(site, page, place):
    home = pathlib.Path("index.html")
    first = {target_of(home, link) for link in site[home].links} - {None}
    second = {
        target_of(file, link)
        for file, _ in first
        if site.get(file) is not None
        for link in site[file].links
    }
    pages = {file for file, _ in (first | second) - {None}}
    assert pathlib.Path(page) in pages
    assert place is None or place in site[pathlib.Path(page)].names


@needs_docs
def test_what_the_package_offers_is_told_where_it_is_defined(site):
    names = set().union(
        *(page.names for path, page in site.items() if path.parts[0] == "api" and page)
    )
    missing = []
    for name in optembed_jax.__all__:
        offered = getattr(optembed_jax, name)
        where = getattr(offered, "__module__", None)
        if where is not None and f"{where}.{getattr(offered, '__qualname__', name)}" not in names:
            missing.append(f"{where}.{name}")
    assert not missing


@needs_docs
def test_docstrings_come_out_as_markdown():
    sys.path.insert(0, str(ROOT / "docs" / "site"))
    try:
        from docstrings import as_markdown
    finally:
        sys.path.pop(0)
    assert as_markdown("see :func:`idle` of ``[V]``") == "see `idle` of `[V]`"
    table = "Rules:\n\n=====  ====\n``a``  b\n=====  ====\n\nEnd, ``c``."
    plain = "Rules:\n\n```text\n=====  ====\na      b\n=====  ====\n```\n\nEnd, `c`."
    assert as_markdown(table) == plain
    assert as_markdown("====  ====\na  b\n====  ====").endswith("====\n```")
    assert as_markdown("plain") == "plain" and as_markdown("") == ""
