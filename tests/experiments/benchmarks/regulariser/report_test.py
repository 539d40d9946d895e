import json

import numpy as np
import pytest
from scipy import stats

from experiments.benchmarks.regulariser import picture, report
from experiments.benchmarks.regulariser.plan import KEY, Grid
from experiments.benchmarks.regulariser.variants import families

NONE, LASSO, L2, BOTH = (
    f"{name}+plateau" for name in ("none", "group_lasso", "l2_coupled", "elastic_net")
)
GRID = Grid(("flights", "synthetic"), families([NONE, LASSO, L2]), (0.2,), 3)
SECOND = {family.name: family.rungs[1].name for family in families([LASSO, L2])}
LAST = families([LASSO])[0].rungs[-1].name


def ran(dataset, family, rung, keep, seed, val_auc=0.7, **figures):
    rng = np.random.default_rng([len(family), seed, int(keep * 100)])
    drawn = {name: float(rng.uniform(0.5, 0.8)) for name in report.FIGURES}
    run = dict(zip(KEY, (dataset, family, rung, keep, seed), strict=True))
    return run | drawn | {"val_auc": val_auc, "best_epoch": 3, "epochs": 5} | figures


@pytest.fixture
def records():
    found = []
    for keep in (1.0, 0.2):
        for family in GRID.families:
            if keep < 1 and not family.pruned:
                continue
            for number, rung in enumerate(family.rungs):
                # Best is the second rung, and of group lasso at 20 % the last.
                best = len(family.rungs) - 1 if (family.name, keep) == (LASSO, 0.2) else 1
                auc = 0.9 if number == best else 0.7
                found.append(ran("flights", family.name, rung.name, keep, 0, auc))
                if number == best or len(family.rungs) == 1:
                    found += [
                        ran("flights", family.name, rung.name, keep, seed, auc) for seed in (1, 2)
                    ]
    return found


def figures(records, family, rung, keep, name):
    wanted = ("flights", family, rung, keep)
    return np.array(
        [r[name] for r in sorted(records, key=lambda r: r["seed"])
         if tuple(r[k] for k in KEY[:4]) == wanted]
    )  # fmt: skip


def test_means_and_spreads_are_those_of_the_seeds_of_the_rung_chosen(records):
    summary = report.summarise(GRID, records)
    cells = {(c["family"], c["keep"]): c for c in summary["best"]}
    assert {place: cell["rung"] for place, cell in cells.items()} == {
        (NONE, 1.0): "-",
        (LASSO, 1.0): SECOND[LASSO],
        (L2, 1.0): SECOND[L2],
        (LASSO, 0.2): LAST,
        (L2, 0.2): SECOND[L2],
    }
    assert [place for place, cell in cells.items() if cell["at_end"]] == [(LASSO, 0.2)]
    for (family, keep), cell in cells.items():
        assert cell["seeds"] == 3 and cell["diverged"] == 0
        for name in report.FIGURES:
            values = figures(records, family, cell["rung"], keep, name)
            assert cell[name]["mean"] == pytest.approx(np.mean(values))
            assert cell[name]["spread"] == pytest.approx(np.std(values, ddof=1))
    weakest = families([L2])[0].rungs[0].name
    one = next(c for c in summary["ladders"] if c["rung"] == weakest and c["keep"] == 1.0)
    assert one["seeds"] == 1 and one["test_auc"]["spread"] is None


def test_differences_are_paired_and_their_interval_is_students(records):
    summary = report.summarise(GRID, records)
    cell = next(c for c in summary["best"] if c["family"] == L2 and c["keep"] == 1.0)
    for name in ("test_auc", "test_logloss"):
        ours = figures(records, L2, SECOND[L2], 1.0, name)
        theirs = figures(records, LASSO, SECOND[LASSO], 1.0, name)
        interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
        assert cell["less"][name]["mean"] == pytest.approx(np.mean(ours - theirs))
        width = (interval.high - interval.low) / 2
        assert cell["less"][name]["half_width"] == pytest.approx(width)
    assert cell["less"]["seeds"] == 3
    own = next(c for c in summary["best"] if c["family"] == LASSO and c["keep"] == 1.0)
    assert own["less"] is None


def test_tables_have_every_figure_and_only_what_was_run(records):
    summary = report.summarise(GRID, records)
    text = report.tables(GRID, summary)
    assert "### flights" in text and "### synthetic" not in text
    cell = next(c for c in summary["best"] if c["family"] == NONE)
    row = next(line for line in text.splitlines() if line.startswith("| nothing; plateau | - |"))
    auc, spread = cell["test_auc"]["mean"], cell["test_auc"]["spread"]
    assert f"{auc:.4f} ± {spread:.4f}" in row and "3.0 of 5.0" in row
    assert f"| 20% | group lasso, proximal; plateau | {LAST} (end of the ladder) |" in text
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    tables = [t.splitlines() for t in text.split("\n\n") if t.startswith("|")]
    assert len(widths) > 10 and all(len({line.count("|") for line in t}) == 1 for t in tables)


def test_the_lasso_or_both_is_what_validates_better_and_stands_beside_the_l2():
    grid = Grid(("flights",), families([LASSO, BOTH, L2]), (), 3, 3)
    names = {family.name: family.rungs[0].name for family in grid.families}
    aucs = {LASSO: (0.80, 0.70, 0.72), BOTH: (0.70, 0.80, 0.75), L2: (0.9, 0.9, 0.9)}
    records = [
        ran("flights", family.name, rung.name, 1.0, seed,
            aucs[family.name][seed] if rung.name == names[family.name] else 0.5)
        for family in grid.families for rung in family.rungs for seed in range(3)
    ]  # fmt: skip
    summary = report.summarise(grid, records)
    (cell,) = summary["either"]
    assert (cell["family"], cell["rung"], cell["keep"]) == (BOTH, names[BOTH], 1.0)
    gap = figures(records, BOTH, names[BOTH], 1.0, "test_auc") - figures(
        records, L2, names[L2], 1.0, "test_auc"
    )
    assert cell["less"]["test_auc"]["mean"] == pytest.approx(np.mean(gap))
    text = report.tables(grid, summary)
    assert f"| 100% | group lasso and table L2, proximal; plateau | {names[BOTH]} |" in text
    # One of the three alone is no choice.
    assert not report.summarise(grid, [r for r in records if r["family"] != BOTH])["either"]


def test_a_training_that_diverged_is_told_and_not_averaged(records):
    lost = next(
        r for r in records if r["rung"] == SECOND[LASSO] and r["seed"] == 1 and r["keep"] == 1
    )
    for name in report.FIGURES:
        if name != "seconds":
            del lost[name]
    lost["diverged"] = "the loss became nan"
    summary = report.summarise(GRID, records)
    cell = next(c for c in summary["best"] if c["family"] == LASSO and c["keep"] == 1.0)
    assert (cell["seeds"], cell["diverged"]) == (2, 1)
    other = next(c for c in summary["best"] if c["family"] == L2 and c["keep"] == 1.0)
    assert other["less"]["seeds"] == 2
    assert "| 2, 1 diverged |" in report.tables(GRID, summary)


def test_of_nothing_there_is_nothing_to_tell():
    summary = report.summarise(GRID, [])
    assert (
        summary == {"ladders": [], "best": [], "either": []} and report.tables(GRID, summary) == ""
    )


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_picture_is_the_same_for_the_same_runs(records, tmp_path, suffix):
    summary = json.loads(json.dumps(report.summarise(GRID, records)))
    files = [tmp_path / f"{name}.{suffix}" for name in ("one", "two")]
    for file in files:
        picture.draw(GRID, summary, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    if suffix == "svg":
        text = files[0].read_text()
        assert "group lasso, proximal" in text and "rows kept, %" in text


def test_a_picture_of_nothing_can_be_drawn(tmp_path):
    picture.draw(GRID, report.summarise(GRID, []), tmp_path / "empty.svg")
    assert (tmp_path / "empty.svg").stat().st_size > 0
