"""The page of a run has every figure of what was recorded, and needs nothing but itself."""

import html
import json
import shutil

import numpy as np
import pytest
from pages import CHROMIUM, Page, check_colours, check_complete, check_shown

from experiments import report as report_main
from experiments.run import report_figures
from experiments.run.report_page import Recorded, page_of, recorded
from experiments.run.workdir import Workdir

FIGURES = ["learning", "size", "search", "fields", "frequency", "calibration", "features"]


@pytest.fixture(scope="module")
def workdir(small_run, tmp_path_factory):
    """A copy of the session's run: a page is written into it again."""
    return shutil.copytree(small_run, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def page(workdir):
    return (workdir / "report.html").read_text(encoding="utf-8")


def test_every_figure_is_there_and_nothing_from_elsewhere(page):
    found = Page(page)
    assert found.open == [] and list(found.figures) == FIGURES
    check_complete(page)


def test_its_colours_are_the_pages(page):
    check_colours(page)


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


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to open the page in")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_every_figure_without_an_error(scheme, workdir, tmp_path):
    check_shown(tmp_path, workdir / "report.html", scheme, FIGURES)
