"""Runs that keep to --max_bundle_bytes, from the pipeline to the folder."""

import json

import numpy as np
import pytest

from experiments import export
from experiments.run import cli, runs
from optembed_jax.models.parameter_count import rows_in_budget

FLAGS = {
    "dataset": "synthetic",
    "synthetic_rows": 3000,
    "synthetic_field_size": 300,
    "synthetic_signal_fields": 2,
    "synthetic_noise_fields": 1,
    "min_count": 1,
    "model": "deepfm",
    "latent_dim": 8,
    "mlp_dims": "16",
    "batch_size": 256,
    "epochs": 2,
    "generations": 1,
    "mutation_num": 2,
    "crossover_num": 2,
    "top_k": 2,
    "finalists": False,
}


LEAST = "cannot be kept: the smallest bundle of this model, of 3 rows in 3 fields"


def size_of(folder):
    return sum(file.stat().st_size for file in folder.iterdir())


def test_a_budget_of_rows_leaves_room_for_all_else(command, data_dir, tmp_path, capsys):
    names, limit = {"data_dir": data_dir, "workdir": tmp_path / "run"}, 14_000
    flags = {**names, **FLAGS, "mode": "feature", "max_bundle_bytes": limit}
    for phase in ("supernet", "retrain"):
        assert command(runs.phase_main(phase), **flags) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["flags"]["max_bundle_bytes"] == limit
    assert 3 < summary["retrain"]["rows_kept"] < 600
    # What was planned is kept, and is most of what there is room for.
    allowed = {**names, "bundle": tmp_path / "bundle", "max_auc_drop": 1}
    assert command(export.main, **allowed) == 0
    assert 0.8 * limit < size_of(tmp_path / "bundle") <= limit
    # An export may keep to less than was planned; the run stays what it is.
    assert command(export.main, **allowed, max_bundle_bytes=int(0.93 * limit)) == 0
    assert size_of(tmp_path / "bundle") <= 0.93 * limit
    capsys.readouterr()
    assert command(runs.phase_main("retrain"), **flags) == 0
    assert "retrain  finished before" in capsys.readouterr().err


def test_fewer_rows_than_were_asked_for_are_told(command, data_dir, tmp_path, capsys):
    names = {"data_dir": data_dir, "workdir": tmp_path / "run", "max_bundle_bytes": 14_000}
    opened = []
    for share in (0.9, 0.01):
        flags = {**names, **FLAGS, "row_keep": share, "mode": "feature"}
        assert command(lambda: opened.append(runs.open_run()), **flags) == 0
    fields, cost = opened[0].prepared.fields, opened[0].bundle_cost
    wanted = round(0.9 * fields.num_features)
    room = cost.affordable_rows(14_000, np.array(fields.sizes), 8)
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "has room for" in line]
    assert told == (
        f"note: --row_keep=0.9 asks for {wanted:,} rows, and --max_bundle_bytes=14,000 has room "
        f"for about {room // 10 * 10:,}: the best are kept, as many as fit"
    )
    assert 8 < room < wanted and rows_in_budget(opened[1].settings.model, fields) == 8


def test_a_search_chooses_among_the_rows_that_fewer_columns_leave_room_for(
    command, data_dir, tmp_path
):
    opened = []
    names = {"data_dir": data_dir, "workdir": tmp_path / "run"}
    for flags in ({}, {"row_keep": 0.1}, {"search": "pareto", "max_bundle_bytes": None}):
        flags = {k: v for k, v in {**FLAGS, "max_bundle_bytes": 12_500, **flags}.items() if v}
        assert command(lambda: opened.append(runs.open_run()), **names, **flags, mode="all") == 0
    free, told, front = opened
    sizes = np.array(free.prepared.fields.sizes)
    rates = free.settings.search_options.keep_rates
    assert list(rates) == sorted(set(rates)) and len(rates) == 3
    for rate, dim in zip(rates, (8, 4, 2), strict=True):
        rows = rate * sizes
        assert free.bundle_cost.bytes(rows, np.full(3, dim)) <= 12_500
        # Two digits of the largest number of rows that fits.
        assert free.bundle_cost.bytes(rows * 1.1 + 1, np.full(3, dim)) > 12_500
    assert told.settings.search_options.keep_rates == () and told.bundle_cost is not None
    assert front.settings.search_options.keep_rates == () and front.bundle_cost is not None


def test_so_does_a_search_under_a_budget_of_the_table(command, data_dir, tmp_path):
    names = {"data_dir": data_dir, "workdir": tmp_path / "run"}

    def rates(**flags):
        opened = []
        flags = {**FLAGS, "mode": "all", **flags}
        assert command(lambda: opened.append(runs.open_run()), **names, **flags) == 0
        (run,) = opened
        assert run.bundle_cost is None
        return run.settings.search_options.keep_rates, run.prepared.fields.num_features

    found, whole = rates(max_table_parameters=960)
    # As many rows as it pays for with 8 columns each, with 4 and with 2.
    np.testing.assert_allclose(np.array(found) * whole, [120, 240, 480])
    assert rates(max_table_bytes=3840)[0] == found
    # Never more than there are, and a row for each field where that is the stand-in.
    assert rates(max_table_parameters=8 * whole)[0] == (1.0,)
    assert rates(max_table_parameters=9)[0] == (3 / whole, 4 / whole)
    # The columns are paid for as they are stored.
    padded, _ = rates(max_table_parameters=960, pad_dims_to=8)
    np.testing.assert_allclose(np.array(padded) * whole, [120])
    # Who says how many has them; a simple rule is of the supernet's rows.
    for told in ({"row_keep": 0.1}, {"search": "uniform"}):
        assert rates(max_table_parameters=960, **told)[0] == ()
    assert rates(max_table_parameters=960, keep_rates="0.5,0.1")[0] == (0.5, 0.1)
    learned = {"mode_threshold": "field", "row_decay": "l2_coupled"}
    assert rates(max_table_parameters=4000, **learned)[0] == ()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"mode": "feature", "max_bundle_bytes": 5_000}, f"{LEAST} with 8 columns each"),
        ({"mode": "all", "max_bundle_bytes": 5_000}, f"{LEAST} with one column each"),
        ({"mode": "embed", "max_bundle_bytes": 12_000}, "--max_bundle_bytes=12,000 cannot be kept"),
        ({"mode": "all", "max_bundle_bytes": 0}, "max_bundle_bytes must be at least 1"),
        ({"max_bundle_bytes": 20_000, "max_table_bytes": 400}, "holds no padded table"),
        ({"max_bundle_bytes": 20_000, "search": "paper"}, "search=paper knows neither"),
        ({"max_bundle_bytes": 5_000, "method": "magnitude"}, f"{LEAST} with 8 columns each"),
        (
            {"max_bundle_bytes": 20_000, "method": "pep", "storage": "int8"},
            "method=pep stores its rows in a form of its own, float32_elements; leave out",
        ),
        ({"max_bundle_bytes": 20_000, "storage": "int9"}, "storage must be one of float32,"),
        (
            {"mode": "feature", "max_bundle_bytes": 20_000, "mode_threshold": "field"},
            "mode_threshold=field cannot plan",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_trained(
    command, data_dir, tmp_path, capsys, flags, message
):
    names = {"data_dir": data_dir, "workdir": tmp_path / "run"}
    status = command(runs.pipeline_main, **names, **{**FLAGS, **flags})
    assert status == (cli.BUDGET_REFUSED if "cannot be kept" in message else 2)
    told = capsys.readouterr().err.splitlines()
    # The first test of a process also prepares the data, and says so.
    (line,) = [line for line in told if not line.startswith("data: ")]
    assert message in line
    assert not (tmp_path / "run" / "baseline").exists()
