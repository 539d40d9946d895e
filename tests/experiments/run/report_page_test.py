"""The page of a run has every figure of what was recorded, and needs nothing but itself."""

import html
import html.parser
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

from experiments import report as report_main
from experiments.run import report_figures, runs
from experiments.run.figure_svg import COLOURS
from experiments.run.report_page import Recorded, page_of, recorded
from experiments.run.workdir import Workdir

FIGURES = ["learning", "size", "search", "fields", "frequency", "calibration", "features"]
FLAGS = {
    "dataset": "synthetic",
    "synthetic_rows": 1500,
    "synthetic_field_size": 30,
    "synthetic_signal_fields": 2,
    "synthetic_noise_fields": 1,
    "latent_dim": 4,
    "mlp_dims": "8",
    "batch_size": 256,
    "epochs": 2,
    "generations": 1,
    "mutation_num": 2,
    "crossover_num": 2,
    "top_k": 2,
}
_VOID = {"meta", "link", "br", "img", "hr", "input"}
_CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Page(html.parser.HTMLParser):
    """Elements that are open, those that were, and every address in an attribute."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.figures, self.ids, self.addresses, self.tags = [], {}, [], [], set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.add(tag)
        self.ids += [given["id"]] if "id" in given else []
        for name in ("src", "href", "xlink:href", "action", "data"):
            self.addresses += [given[name]] if name in given else []
        if tag == "figure":
            self.figures[given["id"]] = []
        elif "figure" in self.open:
            self.figures[list(self.figures)[-1]].append(tag)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def workdir(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    names = {"data_dir": folder / "data", "workdir": folder / "run"}
    assert command(runs.pipeline_main, **names, **FLAGS) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def page(workdir):
    return (workdir / "report.html").read_text(encoding="utf-8")


def test_every_figure_is_there_and_nothing_from_elsewhere(page):
    found = Page(page)
    assert found.open == [] and list(found.figures) == FIGURES
    assert all("svg" in inner and "path" in inner for inner in found.figures.values())
    assert len(set(found.ids)) == len(found.ids)
    assert found.addresses and {address[0] for address in found.addresses} == {"#"}
    assert {address[1:] for address in found.addresses} <= set(found.ids)
    assert not found.tags & {"script", "link", "iframe", "img", "image", "object"}
    assert not re.search(r"@import|url\((?!#)", page)
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(found.ids)
    # Only names of formats, and never fetched.
    assert set(re.findall(r"https?://[\w./]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_its_colours_are_the_pages(page):
    styles = re.findall(r'style="([^"]*)"', page)
    colours = {c for style in styles for c in re.findall(r"#[0-9a-f]{6}", style)}
    assert not colours & set(COLOURS) and colours <= {"#000000", "#ffffff"}
    for name in re.findall(r"var\((--[\w-]+)\)", page):
        assert page.count(f"{name}: #") == 2, name  # In light, and in dark.


def test_its_numbers_are_those_of_the_summary(page, workdir):
    summary = json.loads((workdir / "summary.json").read_text())
    for phase in ("baseline", "supernet", "retrain"):
        assert f"<td>{summary[phase]['test_auc']:.4f}</td>" in page
        assert f"<td>{summary[phase]['table_parameters']:,}</td>" in page
    for field in summary["fields"]:
        assert f'<th scope="row">{field["name"]}</th>' in page
        assert f"{field['rows_kept']:,} of {field['rows']:,}" in page
    for name in summary["flags"]:
        assert f'<th scope="row">--{name}</th>' in page


def test_it_is_written_anew_by_a_command_and_is_the_same(page, workdir, command, capsys, tmp_path):
    (workdir / "report.html").unlink()
    assert command(report_main.main, workdir=workdir) == 0
    assert f"report: {workdir / 'report.html'}" in capsys.readouterr().out
    assert (workdir / "report.html").read_text(encoding="utf-8") == page
    assert command(report_main.main, workdir=tmp_path / "nowhere") == 2
    assert "summary.json cannot be read" in capsys.readouterr().err
    (tmp_path / "summary.json").write_text("[1]")
    assert command(report_main.main, workdir=tmp_path) == 2
    assert "is no summary of a run" in capsys.readouterr().err


def test_a_run_of_one_phase_has_the_figures_of_one(workdir):
    whole = recorded(Workdir(workdir))
    left = {k: v for k, v in whole.summary.items() if k not in ("supernet", "search", "retrain")}
    alone = Page(page_of(Recorded(left, {"baseline": whole.metrics["baseline"]})))
    assert list(alone.figures) == [name for name in FIGURES if name != "search"]
    before_fields = {k: v for k, v in left.items() if k not in ("baseline", "fields")}
    assert Page(page_of(Recorded(before_fields, {}))).figures == {}


def test_names_that_are_markup_stay_text(workdir):
    whole = recorded(Workdir(workdir))
    whole.summary["fields"][0]["name"] = '<b onload="x">&'
    whole.summary["dataset"] = "<script>alert(1)</script>"
    text = page_of(whole)
    assert "script" not in Page(text).tags and "b" not in Page(text).tags
    assert "&lt;b onload=" in text


@pytest.mark.parametrize(
    "name",
    ["price_$_min_$", r"$\frac{$", "用户编号", "👍", 'a id="b" href="#c" url(#d) #a10001'],
)
def test_any_name_is_shown_as_it_is(name, workdir):
    whole = recorded(Workdir(workdir))
    whole.summary["fields"][0]["name"] = name
    text = page_of(whole)  # Warnings are errors: of a font without the letters too.
    escaped = html.escape(name, quote=False)
    assert text.count(f">{escaped}</text>") == 2  # Of fields, and of features.
    assert "mathdefault" not in text


def test_a_long_name_leaves_room_for_the_figure(workdir):
    whole = recorded(Workdir(workdir))
    whole.summary["fields"][0]["name"] = "a" * 200 + "z"
    text = page_of(whole)
    assert text.count(f">{'a' * 28}…{'a' * 10}z</text>") == 2
    assert f'<th scope="row">{"a" * 200}z</th>' in text


def test_a_model_that_lost_every_row_has_a_page(workdir):
    whole = recorded(Workdir(workdir))
    for field in whole.summary["fields"]:
        field.update(rows_kept=0, dim=0, bytes=0)
    whole.summary["retrain"].update(table_parameters=0, rows_kept=0)
    assert list(Page(page_of(whole)).figures) == FIGURES


def test_the_page_says_by_which_method_and_tells_of_no_search_that_was_not(workdir):
    whole = recorded(Workdir(workdir))
    assert "table, by OptEmbed." in page_of(whole) and "frozen supernet says" in page_of(whole)
    whole.summary["flags"]["method"] = "<frequency>"
    text = page_of(Recorded(whole.summary, whole.metrics))
    assert "table, by the method &lt;frequency&gt;." in text
    assert "frozen supernet says" not in text


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("summary.json", '{"flags": {}}'),
        ("summary.json", '{"flags": [], "model": 1, "dataset": 2, "seed": 3, "versions": []}'),
        ("baseline/metrics.jsonl", '{"epoch": 1}\n'),
        ("baseline/metrics.jsonl", "[1]\n"),
    ],
)
def test_what_another_version_recorded_is_told_and_leaves_the_page(
    file, text, workdir, command, capsys, tmp_path
):
    shutil.copytree(workdir, tmp_path / "run")
    (tmp_path / "run" / file).write_text(text)
    before = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert command(report_main.main, workdir=tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert "no page of" in said and "not what this version records" in said
    assert (tmp_path / "run" / "report.html").read_text(encoding="utf-8") == before


def test_the_front_is_what_no_smaller_one_equals():
    points = np.array([[4, 0.7], [1, 0.5], [2, 0.5], [3, 0.8], [2, 0.6], [5, 0.8]])
    assert report_figures.front_of(points).tolist() == [[1, 0.5], [2, 0.6], [3, 0.8]]
    assert report_figures.front_of(np.zeros((0, 2))).tolist() == []


def chromium(folder, path, *flags):
    """What Chromium says and prints of a file."""
    command = [_CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += ["--disable-sync", f"--user-data-dir={folder}", "--enable-logging=stderr", *flags]
    done = subprocess.run(
        [*command, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"HOME": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.skipif(_CHROMIUM is None, reason="no Chromium is installed to open the page in")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_every_figure_without_an_error(scheme, page, workdir, tmp_path):
    flags = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"]
    flags = flags if scheme == "dark" else []
    done = chromium(tmp_path / "profile", workdir / "report.html", *flags)
    assert ":CONSOLE" not in done.stderr, done.stderr

    # The same page with a script that measures what is shown.
    probe = """<script>
    console.log("probe");
    const told = [...document.querySelectorAll("figure")].map(figure => {
      const box = figure.querySelector("svg").getBoundingClientRect();
      const text = figure.querySelector("svg text");
      return [figure.id, box.width, box.height, getComputedStyle(text).fill];
    });
    const colours = getComputedStyle(document.body);
    document.body.innerHTML = "<pre>" + JSON.stringify(
      {told, surface: colours.backgroundColor, ink: colours.color,
       wide: document.documentElement.scrollWidth}) + "</pre>";
    </script>"""
    without = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    (tmp_path / "probed.html").write_text(without.replace("</body>", probe + "</body>"))
    done = chromium(tmp_path / "profile", tmp_path / "probed.html", "--window-size=900,800", *flags)
    assert '"probe"' in done.stderr  # So that an error would have been seen above.
    found = json.loads(re.search(r"<pre>(\{.*\})</pre>", done.stdout).group(1))
    assert [name for name, *_ in found["told"]] == FIGURES
    assert all(width > 300 and height > 100 for _, width, height, _ in found["told"])
    assert found["wide"] <= 900
    surface = [int(n) for n in re.findall(r"\d+", found["surface"])]
    assert (sum(surface) > 600) == (scheme == "light")
    for *_, fill in found["told"]:
        ink = [int(n) for n in re.findall(r"\d+", fill)]
        assert abs(sum(ink) - sum(surface)) > 200
