"""The page of a comparison has all that the command prints, and needs nothing but itself."""

import numpy as np
import pytest
from pages import CHROMIUM, Page, check_colours, check_complete, check_shown

from experiments.run import comparison_page, comparison_report
from experiments.run.comparison_grid import Grid

FIGURES = ["size", "differences"]
METHODS = ("optembed", "frequency", "magnitude", "uniform", "mde")
GRID = Grid(METHODS, (0.1, 0.2), 3, 1000, ("--dataset=flights", "--lr=0.001"))


def records(methods=METHODS, seeds=3):
    rng, found = np.random.default_rng(0), []
    for seed in range(seeds):
        for share in GRID.shares:
            for number, method in enumerate(methods):
                cell = {"method": method, "share": share, "seed": seed}
                if (method, share) == ("mde", 0.1):
                    found.append({**cell, "refused": "a budget of 1 <is> below"})
                    continue
                auc = 0.7 + share / 10 - number / 100 + rng.normal(0, 0.001)
                size = {"table_parameters": 1000 * share, "bundle_bytes": 4000 * share + number}
                found.append(
                    {
                        **cell,
                        **size,
                        **{"test_auc": auc, "test_logloss": 1 - auc, "seconds": 2.0},
                        "versions": {"jax": f"1.{seed}"},
                    }
                )
        size = {"table_parameters": 1000, "bundle_bytes": 9000, "seconds": 1.0}
        full = {"method": "full", "share": 1.0, "seed": seed, "test_auc": 0.74}
        found.append({**full, "test_logloss": 0.3, **size})
    return found


def page_of(rows, grid=GRID, dataset="flights"):
    summary = comparison_report.summarise(rows)
    return comparison_page.page_of(summary, grid, dataset)


@pytest.fixture(scope="module")
def page():
    return page_of(records())


def test_every_figure_is_there_and_nothing_from_elsewhere(page):
    assert list(Page(page).figures) == FIGURES
    check_complete(page)
    check_colours(page)
    for method in ("OptEmbed", "the full table", *METHODS[1:]):
        assert f">{method}</text>" in page  # In the legend.


def test_its_numbers_are_those_that_are_printed(page):
    summary = comparison_report.summarise(records())
    assert f"<p><strong>{summary['verdict'][0]}</strong></p>" in page
    lines = comparison_report.method_lines(summary)
    lines += comparison_report.difference_lines(summary)
    assert len(lines) == 1 + 2 * 5 + 1 + 1 + 7
    for line in lines:
        assert all(f">{cell}</t" in page for cell in line)
    of_one = [r["test_auc"] for r in records() if (r["method"], r["share"]) == ("uniform", 0.2)]
    assert f"<td>{np.mean(of_one):.4f} +- {np.std(of_one, ddof=1):.4f}</td>" in page
    for flag, value in (("--lr", "0.001"), ("--budgets", "0.1,0.2"), ("--dataset", "flights")):
        assert f'<th scope="row">{flag}</th><td>{value}</td>' in page
    assert "jax 1.2" in page


def test_a_rival_that_is_ahead_is_told_first_and_marked():
    behind = [
        {**r, "test_auc": r["test_auc"] - (r["method"] == "optembed" and r["share"] == 0.2) * 0.1}
        if "test_auc" in r
        else r
        for r in records()
    ]
    text = page_of(behind)
    marked = text.index('<p class="warning"><strong>OptEmbed is below frequency at 20 %')
    assert marked < text.index("<p><strong>OptEmbed is above frequency at 10 %")


def test_what_was_refused_is_told_as_text(page):
    assert "mde at 10 %: a budget of 1 &lt;is&gt; below" in page
    assert "<script" not in page_of(records(), dataset="<script>alert(1)</script>")


def test_one_seed_shows_no_intervals_and_nothing_no_figure():
    assert list(Page(page_of(records(seeds=1))).figures) == ["size"]
    refused = [{"method": "mde", "share": 0.1, "seed": 0, "refused": "too small"}]
    text = page_of(refused)
    assert Page(text).figures == {} and "nothing to compare" in text


def test_more_methods_than_colours_are_drawn_apart():
    methods = ("optembed", *(f"rival{number}" for number in range(12)))
    summary = comparison_report.summarise(records(methods, seeds=2))
    looks = comparison_page.comparison_figures._looks(summary)
    assert len(set(looks.values())) == len(methods) + 1


def test_the_front_is_over_all_methods_and_drawn_through():
    figures = {  # Bytes, AUC and logloss of each method's two seeds.
        ("optembed", 0.1): [(100, 0.70, 0.40), (120, 0.72, 0.38)],
        ("optembed", 0.2): [(200, 0.74, 0.39), (200, 0.74, 0.39)],
        ("mde", 0.1): [(110, 0.71, 0.37), (110, 0.71, 0.37)],  # As large, and ties in AUC.
        ("mde", 0.2): [(300, 0.73, 0.35), (300, 0.73, 0.35)],
        ("uniform", 0.1): [(90, 0.60, 0.50), (90, 0.60, 0.50)],
        ("full", 1.0): [(900, 0.75, 0.36), (900, 0.75, 0.36)],
    }
    rows = [
        {"method": method, "share": share, "seed": seed, "table_parameters": 1, "seconds": 1.0}
        | {"bundle_bytes": size, "test_auc": auc, "test_logloss": loss}
        for (method, share), seeds in figures.items()
        for seed, (size, auc, loss) in enumerate(seeds)
    ]
    rows.append({"method": "pep", "share": 0.1, "seed": 0, "refused": "too small"})
    summary = comparison_report.summarise(rows)
    of_auc = [[90, 0.60], [110, 0.71], [200, 0.74], [900, 0.75]]
    of_logloss = [[90, 0.50], [110, 0.37], [300, 0.35]]
    figure = comparison_page.comparison_figures.against_bytes(summary)
    for axes, points in zip(figure.axes, (of_auc, of_logloss), strict=True):
        (line,) = [line for line in axes.lines if line.get_label() == "front"]
        np.testing.assert_allclose(line.get_xydata(), points)
    assert "front" in [text.get_text() for text in figure.legends[0].texts]
    nothing = comparison_report.summarise([rows[-1]])
    assert comparison_page.comparison_figures.front(nothing, "test_auc").shape == (0, 2)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to open the page in")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_every_figure_without_an_error(scheme, page, tmp_path):
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    check_shown(tmp_path, tmp_path / "report.html", scheme, FIGURES)
