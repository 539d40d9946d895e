"""The page of a run has every figure of what was recorded, and needs nothing but itself."""

import html
import json
import shutil

import numpy as np
import pytest
from matplotlib.figure import Figure
from pages import CHROMIUM, Page, check_colours, check_complete, check_shown
from small_run import SEARCHED

from experiments import report as report_main
from experiments.run import size_figure
from experiments.run.figure_svg import styled, svg_of
from experiments.run.report_page import Recorded, _scored, page_of, recorded
from experiments.run.runs import pipeline_main
from experiments.run.workdir import Workdir
from optembed_jax.search.dimension_rules import DIMENSION_RULES
from optembed_jax.storage import array_file

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


def with_short_list(whole, kept):
    """Give the run a short list: two rules are candidates that were scored, one is none.

    The dimensions of the two.
    """
    best = whole.summary["search"]["dims"]
    others = [row for row in whole.scored.dims.tolist() if row != list(best.values())]
    nobody = [whole.scored.dims.max() + 1] * len(best)
    listed = [
        ("search", [], best.values()),
        ("uniform", ["uniform", "log_v"], others[0]),
        ("inverse_log_v", ["inverse_log_v"], nobody),
        ("corner", ["corner"], others[1]),
    ]
    whole.summary["retrain"].update(
        kept=kept,
        finalists=[
            {"name": name, "rules": rules, "dims": dict(zip(best, dims, strict=True))}
            | {"val_auc": 0.6 + number / 100, "table_parameters": 40 + number}
            for number, (name, rules, dims) in enumerate(listed)
        ],
    )
    return others[:2]


def test_simple_rules_and_the_winner_go_by_their_names(workdir):
    whole = recorded(Workdir(workdir))
    with_short_list(whole, kept="corner")
    text = page_of(whole)
    check_complete(text)
    check_colours(text)
    assert text.count(">uniform = log_v</text>") == 2  # As a model, and as a candidate.
    assert text.count(">inverse_log_v</text>") == 1  # Nobody scored it.
    assert text.count(">retrain: corner</text>") == text.count(">corner</text>") == 1
    assert text.count(">winner of the search</text>") == 3  # And in the legend.
    assert "Squares are the simple rules" in text
    with_short_list(whole, kept="search")
    names = [point.name for point in size_figure.trained_points(whole.summary)]
    assert names[2:] == [
        *("retrain: winner of the search", "uniform = log_v", "inverse_log_v", "corner")
    ]


def test_without_a_short_list_no_rule_is_named(workdir, page):
    assert ">winner of the search</text>" in page and ">retrain</text>" in page
    for rule in (*DIMENSION_RULES, "a simple rule"):
        assert f">{rule}" not in page
    assert "Squares are the simple rules" not in page


def test_a_rule_is_where_the_supernet_scored_it(workdir):
    whole = recorded(Workdir(workdir))
    others = with_short_list(whole, kept="search")
    points = {one.name: one for one in size_figure.named_candidates(whole.summary, whole.scored)}
    assert set(points) == {size_figure.WINNER, "uniform = log_v", "corner"}
    supernet = json.loads((workdir / "supernet" / "result.json").read_text())
    rows = [field["rows_kept"] for field in supernet["fields"]]
    search = array_file.load(workdir / "search" / "search.safetensors", "")
    for name, dims in (("uniform = log_v", others[0]), ("corner", others[1])):
        assert points[name].size == 4 * sum(d * n for d, n in zip(dims, rows, strict=True))
        (place,) = [n for n, row in enumerate(search["cache"].tolist()) if row == dims]
        assert points[name].value == search["cache_fitness"][place]
    winner = points[size_figure.WINNER]
    assert winner.value == search["cache_fitness"].max()
    looks = {name: (one.marker, one.colour) for name, one in points.items()}
    assert looks["corner"] == looks["uniform = log_v"] != looks[size_figure.WINNER]


@pytest.fixture(scope="module")
def under_a_budget(command, small_data, tmp_path_factory):
    """A run whose search chooses how many rows there are, as it does under a budget by default."""
    workdir = tmp_path_factory.mktemp("budget") / "run"
    given = {"max_table_parameters": 150, "pad_dims_to": 2}
    assert command(pipeline_main, data_dir=small_data, workdir=workdir, **SEARCHED, **given) == 0
    return workdir


def test_candidates_that_choose_their_rows_are_shown_at_their_size(under_a_budget):
    summary = json.loads((under_a_budget / "summary.json").read_text())
    search, retrained = summary["search"], summary["retrain"]
    rows, multiple = np.array(search["space"]["rows"]), search["space"]["multiple"]
    assert len(rows) > 1 and multiple == 2
    scored = recorded(Workdir(under_a_budget)).scored
    assert set(scored.mask.tolist()) <= set(range(len(rows)))
    paid = -(-scored.dims // multiple) * multiple
    np.testing.assert_array_equal(scored.points[:, 0], 4 * (rows[scored.mask] * paid).sum(axis=1))
    assert scored.points[:, 0].max() <= 4 * 150
    points = size_figure.named_candidates(summary, scored)
    of_rules = [one for one in retrained["finalists"] if one["rules"]]
    assert of_rules
    named = {one.name for one in points}
    for one in of_rules:
        assert any(rule in name for rule in one["rules"] for name in named), one["name"]
    text = (under_a_budget / "report.html").read_text(encoding="utf-8")
    check_complete(text)
    check_colours(text)
    assert "Squares are the simple rules" in text and ">front</text>" in text


def test_a_record_without_rows_of_masks_has_the_supernets(workdir):
    summary = json.loads((workdir / "summary.json").read_text())
    before = recorded(Workdir(workdir)).scored
    del summary["search"]["space"]
    after = _scored(Workdir(workdir), summary)
    np.testing.assert_array_equal(after.points, before.points)
    summary["search"]["space"] = {"rows": [[1, 1, 1], [2, 2, 2]], "multiple": 1}
    assert _scored(Workdir(workdir), summary) is None  # No candidate has a gene for that.


def test_of_a_front_the_winner_is_what_was_picked_with_its_rows():
    dims = {"a": 2, "b": 1}
    sizes = [(10, 0.5, 0, {"a": 1, "b": 1}), (20, 0.6, 0, dims), (30, 0.7, 1, dims)]
    front = [
        {"table_bytes": size, "val_auc": auc, "mask": mask, "dims": own}
        for size, auc, mask, own in sizes
    ]
    scored = size_figure.Scored(
        np.array([[10, 0.5], [20, 0.6], [30, 0.7]]), np.array([[1, 1], [2, 1], [2, 1]]),
        np.array([0, 0, 1]),
    )  # fmt: skip
    search = {"front": front, "strategy": "pareto"}
    summary = {"search": search, "flags": {"pick": "1"}}
    assert size_figure.named_candidates(summary, scored) == []  # Nothing is picked yet.
    for pick, size in (("1", 20), ("best", 30)):
        picked = {**summary, "flags": {"pick": pick}, "retrain": {}}
        (winner,) = size_figure.named_candidates(picked, scored)
        assert (winner.name, winner.size) == (size_figure.WINNER, size)
    winner = {"name": "search", "rules": ["corner"], "dims": dims}
    rule = {"name": "uniform", "rules": ["uniform"], "dims": {"a": 1, "b": 1}}
    listed = {**summary, "retrain": {"finalists": [winner, rule]}}
    names = [one.name for one in size_figure.named_candidates(listed, scored)]
    assert names == ["winner of the search = corner", "uniform"]


def test_beside_a_front_stand_the_simple_rules(workdir):
    whole = recorded(Workdir(workdir))
    dims = whole.summary["search"]["dims"]
    places = [(400, 0.61), (800, 0.66), (1600, 0.7)]
    front = [
        {"table_bytes": x, "val_auc": y, "mask": 0, "dims": dims}
        | {"index": n, "table_parameters": x // 4, "rows": 10, "knee": n == 1}
        for n, (x, y) in enumerate(places)
    ]
    tried = {rule: [(x, y - n / 100) for x, y in places] for n, rule in enumerate(DIMENSION_RULES)}
    rules = [
        {"rule": rule, "table_bytes": x, "val_auc": y}
        for rule, points in tried.items()
        for x, y in points
    ]
    summary = {**whole.summary, "search": {**whole.summary["search"], "front": front}}
    scored = size_figure.Scored(np.array(places), np.array([list(dims.values())] * 3), np.zeros(3))
    alone = size_figure.auc_against_bytes(summary, scored)
    assert not {*DIMENSION_RULES} & {text.get_text() for text in alone.legends[0].get_texts()}
    summary["search"]["rules"] = rules
    finalist = {"name": "corner", "rules": ["corner"], "dims": dims}
    finalist |= {"val_auc": 0.6, "table_parameters": 9}
    summary["retrain"] = {**summary["retrain"], "kept": "corner", "finalists": [finalist]}
    figure = size_figure.auc_against_bytes(summary, scored)
    named = dict(zip(
        (text.get_text() for text in figure.legends[0].get_texts()),
        (mark.get_marker() for mark in figure.legends[0].get_lines()),
        strict=True,
    ))  # fmt: skip
    drawn = [(line.get_marker(), *line.get_xydata()[0]) for line in figure.axes[1].get_lines()]
    assert len(set(named.values())) == len(named) > len(tried)
    for rule, points in tried.items():
        assert [(x, y) for mark, x, y in drawn if mark == named[rule]] == points
    text = page_of(Recorded(summary, whole.metrics, scored))
    check_complete(text)
    check_colours(text)
    assert "Beside the front stand the simple rules" in text


def test_a_rule_that_was_asked_for_is_no_winner():
    scored = size_figure.Scored(np.array([[8, 0.6]]), np.array([[1, 1]]), np.array([0]))
    summary = {"search": {"strategy": "log_v", "dims": {"a": 1, "b": 1}, "mask": 0}}
    (rule,) = size_figure.named_candidates(summary, scored)
    assert rule.name == "log_v"


def test_of_many_names_the_first_two_are_shown():
    """One model may be all that a short list has, and a name of all leaves no room for the axes."""
    one = {"val_auc": 0.7, "table_parameters": 10}
    rules = ["uniform", "log_v", "inverse_log_v", "corner"]
    finalist = {**one, "name": "search", "rules": rules, "dims": {"a": 1, "b": 1}}
    summary = {
        "retrain": {**one, "kept": "search", "finalists": [finalist]},
        "search": {"dims": finalist["dims"], "mask": 0},
    }
    scored = size_figure.Scored(np.array([[8, 0.6]]), np.array([[1, 1]]), np.array([0]))
    (trained,) = size_figure.trained_points(summary)
    assert trained.name == "retrain: winner of the search = uniform and 3 more"
    with styled():
        text = svg_of(size_figure.auc_against_bytes(summary, scored), "a", "b")
    assert text.count("uniform and 3 more") == 2 and "corner" not in text


def test_a_supernet_on_the_short_list_is_shown_once():
    one = {"rules": [], "val_auc": 0.7, "table_parameters": 10}
    finalists = [{**one, "name": "retrained"}, {**one, "name": "supernet"}]
    for kept, names in (
        ("supernet", ["supernet", "retrain: supernet", "retrained"]),
        ("retrained", ["supernet", "retrain: retrained"]),
    ):
        retrain = {**one, "kept": kept, "finalists": finalists}
        points = size_figure.trained_points({"supernet": one, "retrain": retrain})
        assert [point.name for point in points] == names


def test_names_of_neighbours_lie_apart_and_above_the_axis():
    axes = Figure().add_subplot()
    values = [0.7, 0.7001, 0.7001, 0.7002, 0.9]
    points = [size_figure.Point(str(n), 100 + n, v, "o", "k") for n, v in enumerate(values)]
    axes.plot([point.size for point in points], values)
    size_figure._spread_labels(axes, points)
    at = sorted(text.xyann[1] for text in axes.texts)
    low, high = axes.get_ylim()
    assert low < at[0] and np.diff(at).min() > 0.0599 * (high - low)
    assert {text.xyann[0] for text in axes.texts if text.xyann[1] < 0.8} == {103}


@pytest.mark.parametrize("least", [900, 300, 10_000, 1])
@pytest.mark.parametrize("times", [1, 1.1, 2.9, 3, 20, 100, 1e5, 1e9])
def test_any_sizes_have_a_few_numbers_along_them(least, times):
    figure = Figure()
    for axes, draw in zip(figure.subplots(2), ("plot", "barh"), strict=True):
        sizes = [least, least * times]
        getattr(axes, draw)(*((sizes, [0, 1]) if draw == "plot" else ([0, 1], sizes)))
        axes.margins(x=0.1)
        size_figure.sizes_along(axes)
        low, high = axes.get_xlim()
        told = [place for place in axes.get_xticks() if low <= place <= high]
        assert 2 <= len(told) <= 8, (draw, told)
        assert len({axes.xaxis.get_major_formatter()(place) for place in told}) == len(told)


def test_a_table_without_numbers_is_no_trouble_to_the_others():
    axes = Figure().subplots()
    axes.plot([0, 4000], [0, 1])
    size_figure.sizes_along(axes)
    low, high = axes.get_xlim()
    assert 0 < low < high and [place for place in axes.get_xticks() if low <= place <= high]


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
    assert size_figure.front_of(points).tolist() == [[1, 0.5], [2, 0.6], [3, 0.8]]
    assert size_figure.front_of(np.zeros((0, 2))).tolist() == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to open the page in")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_every_figure_without_an_error(scheme, workdir, tmp_path):
    check_shown(tmp_path, workdir / "report.html", scheme, FIGURES)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to open the page in")
def test_a_browser_shows_candidates_that_choose_their_rows(under_a_budget, tmp_path):
    check_shown(tmp_path, under_a_budget / "report.html", "light", FIGURES)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to open the page in")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_names_apart(scheme, workdir, tmp_path):
    whole = recorded(Workdir(workdir))
    with_short_list(whole, kept="corner")
    sizes = 10 ** np.linspace(1, 8, 26)  # Of many fields with long names.
    whole.summary["fields"] = [
        {**whole.summary["fields"][0], "name": f"a_field_of_a_log_{number}", "bytes": int(size)}
        for number, size in enumerate(sizes)
    ]
    (tmp_path / "report.html").write_text(page_of(whole), encoding="utf-8")
    check_shown(tmp_path, tmp_path / "report.html", scheme, FIGURES)
