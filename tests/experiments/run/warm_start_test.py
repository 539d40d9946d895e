"""A run that begins with another one's model: what is carried, what is refused, what goes on."""

import csv
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments import export
from experiments.run import phase_start, report, runs
from experiments.run.bundle_rows import kept_shape
from experiments.run.earlier_run import MEMORY, SCORES
from experiments.run.trained import load_trained
from optembed_jax.models.forward import forward
from optembed_jax.models.selection import Selection
from optembed_jax.serving import bundle_format
from optembed_jax.serving.kept_table import RowsAndDims
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.storage import array_file

SMALL = {
    "dataset": "table",
    "label": "click",
    "categorical": "user,place",
    "numeric": "price",
    "numeric_bins": 5,
    "min_count": 1,
    "model": "deepfm",
    "latent_dim": 4,
    "mlp_dims": "8",
    "batch_size": 128,
    "epochs": 1,
    "mode": "feature",
    "row_keep": 0.5,
    "finalists": False,
}


def write_day(path, users, seed):
    """A log with a value of each user, in which who is even clicks more."""
    draw = np.random.default_rng(seed)
    user = draw.choice(np.asarray(users), 900)
    price = draw.normal(10.0 + seed, 3.0, 900)
    click = draw.random(900) < np.where(user % 2 == 0, 0.7, 0.2)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user", "price", "place", "click"])
        for line in zip(user, price.round(2), draw.integers(0, 4, 900), click, strict=True):
            rows.writerow([f"u{line[0]}", line[1], f"p{line[2]}", int(line[3])])


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    folder = tmp_path_factory.mktemp("days")
    write_day(folder / "1.csv", range(40), 1)
    write_day(folder / "2.csv", range(20, 60), 2)
    return folder


def without_none(flags):
    """Flags but those that are to be left out."""
    return {name: value for name, value in flags.items() if value is not None}


@pytest.fixture(scope="module")
def run(command, days):
    def run(main, workdir, day, **flags):
        given = {**SMALL, "table_file": days / f"{day}.csv", "data_dir": days / "data", **flags}
        return command(main, workdir=workdir, **without_none(given))

    return run


@pytest.fixture(scope="module")
def first(run, days):
    assert run(runs.pipeline_main, days / "first", 1) == 0
    return days / "first"


@pytest.fixture(scope="module")
def bundle(command, first, days):
    """Of the first day, in few bits."""
    flags = {"workdir": first, "bundle": days / "bundle", "platforms": "cpu"}
    assert command(export.main, **flags, storage="int8", max_auc_drop=1) == 0
    return days / "bundle"


@pytest.fixture
def open_run(days, tmp_path):
    with flagsaver.flagsaver():

        def open_run(day, source, to_run=runs.phases_asked, **flags):
            absl_flags.FLAGS.unparse_flags()
            given = {**SMALL, "table_file": days / f"{day}.csv", "data_dir": days / "data"}
            given |= {"workdir": tmp_path / "opened", "warm_start": source, **flags}
            given = without_none(given)
            absl_flags.FLAGS(["test", *(f"--{name}={value}" for name, value in given.items())])
            return runs.open_run(to_run)

        yield open_run


def summary_of(workdir):
    return json.loads((workdir / "summary.json").read_text())


def test_on_the_same_log_all_is_carried_bit_for_bit(first, open_run):
    opened = open_run(1, first)
    warm = opened.warm
    features = opened.prepared.fields.num_features
    assert warm.source.tolist() == list(range(features))
    for phase in ("baseline", "supernet", "retrain"):
        begun, trained = warm.beginning(phase), warm.earlier._trained(phase)
        kept = trained.rows if phase == "retrain" else np.ones(features, bool)
        assert begun.name == phase
        rows = np.asarray(begun.params.table.rows)
        assert rows[kept].tobytes() == np.asarray(trained.params.table.rows)[kept].tobytes()
        own = jax.tree.leaves((begun.params.network, begun.batch_stats))
        old = jax.tree.leaves((trained.params.network, trained.batch_stats))
        assert all(np.array_equal(a, b) for a, b in zip(own, old, strict=True))
        file = array_file.load(first / phase / MEMORY)
        carried = begun.memory.as_arrays()
        assert carried.keys() == file.keys() >= {"steps", "visits", "mu/rows", "nu/linear"}
        assert all(np.array_equal(carried[name], file[name]) for name in file)
        assert file["steps"][0] > 0 and file["visits"].max() == file["steps"][0]
    record = warm.record()
    assert record["new"] == record["gone"] == 0 and record["reads_of_carried"] == 1


def test_values_come_and_go_and_the_model_scores_as_before(first, open_run):
    opened = open_run(2, first)
    warm, fields, before = opened.warm, opened.prepared.fields, opened.warm.earlier.before.fields
    now, then = opened.prepared.vocabulary, warm.earlier.before.vocabulary
    for number in (25, 30, 39):
        assert warm.source[now.id("user", f"u{number}")] == then.id("user", f"u{number}")
    for number in (40, 59):
        assert warm.source[now.id("user", f"u{number}")] == -1
    record = warm.record()
    users = next(field for field in record["fields"] if field["name"] == "user")
    assert users == {"name": "user", "carried": 20, "new": 20, "gone": 20}
    assert sum(band["new"] for band in record["by_frequency"]) == record["new"]
    raw = {
        "user": ["u25", "u45", "u3", "u59"],
        "place": ["p0", "p1", "p2", "p9"],
        "price": [9.0, 12.0, 1.0, 40.0],
    }
    begun, trained = warm.beginning("supernet"), warm.earlier._trained("supernet")
    ids, ids_before = opened.prepared.encode(raw), warm.earlier.before.encode(raw)
    # Bins are matched by their middle, so of those only what both read the same.
    price = fields.names.index("price")
    ids_before[:, price] = warm.source[ids[:, price]]
    ids_before[2, fields.names.index("user")] = before.oov_ids[fields.names.index("user")]

    def logits(params, batch_stats, ids):
        return forward(opened.settings.model, params, batch_stats, ids, Selection())[0]

    np.testing.assert_array_equal(
        logits(begun.params, begun.batch_stats, ids),
        logits(trained.params, trained.batch_stats, ids_before),
    )


def test_a_day_goes_on_from_another_and_says_so(run, first, tmp_path, capsys):
    assert run(runs.pipeline_main, tmp_path / "one", 2, warm_start=first) == 0
    assert run(runs.phase_main("supernet"), tmp_path / "two", 2, warm_start=first) == 0
    out = capsys.readouterr().out
    assert "rows from first" in out and "of the reads are of carried rows" in out
    one, two = (summary_of(tmp_path / folder) for folder in ("one", "two"))
    for phase in ("baseline", "supernet", "retrain"):
        assert one[phase]["warm_start"] == {"from": phase, "moments": True}
        steps = [
            array_file.load(at / phase / MEMORY)["steps"][0] for at in (first, tmp_path / "one")
        ]
        assert steps[1] > steps[0] > 0
    assert one["warm_start"]["carried"] > 0
    assert one["supernet"]["test_auc"] == two["supernet"]["test_auc"]
    # A run that goes on with its source changed, or with none, is refused.
    (tmp_path / "one" / "retrain" / "result.json").unlink()
    assert run(runs.pipeline_main, tmp_path / "one", 2) == 2
    assert "warm_start" in capsys.readouterr().err
    assert run(runs.pipeline_main, tmp_path / "one", 2, warm_start=first) == 0
    again = summary_of(tmp_path / "one")
    assert again["retrain"]["test_auc"] == one["retrain"]["test_auc"]
    changed = tmp_path / "changed"
    shutil.copytree(first, changed)
    arrays = array_file.load(changed / "retrain" / MEMORY)
    array_file.save(changed / "retrain" / MEMORY, {**arrays, "steps": arrays["steps"] + 1})
    assert run(runs.pipeline_main, tmp_path / "two", 2, warm_start=changed) == 2
    assert "warm_start" in capsys.readouterr().err


def test_a_value_that_comes_back_after_three_days_is_new_and_told(
    run, first, tmp_path, open_run, capsys
):
    """Users 0 to 19 are in the first log, in none of three, and in the last."""
    source = first
    for day, log in (("2", 2), ("3", 2), ("4", 2), ("5", 1)):
        capsys.readouterr()
        assert run(runs.phase_main("baseline"), tmp_path / day, log, warm_start=source) == 0
        source = tmp_path / day
    (users,) = [f for f in summary_of(source)["warm_start"]["fields"] if f["name"] == "user"]
    assert users == {"name": "user", "carried": 20, "new": 20, "gone": 20}
    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("user ")]
    assert told.split()[1:4] == ["20", "20", "20"]
    # What came back has no past: only steps of the last day have read it.
    opened = open_run(1, tmp_path / "4", lambda settings: ("baseline",))
    ids = [opened.prepared.vocabulary.id("user", f"u{number}") for number in range(20)]
    assert (opened.warm.source[ids] == -1).all()
    then, now = (array_file.load(tmp_path / day / "baseline" / MEMORY) for day in "45")
    assert 0 < now["visits"][ids].max() <= now["steps"][0] - then["steps"][0] < now["steps"][0]


def test_the_shape_is_kept_and_free_places_go_to_new_values(run, first, tmp_path, open_run):
    assert run(runs.pipeline_main, tmp_path / "kept", 2, warm_start=first, keep_shape=True) == 0
    made = summary_of(tmp_path / "kept")
    assert "supernet" not in made and made["retrain"]["warm_start"]["from"] == "retrain"
    opened = open_run(2, first, keep_shape=True)
    kept, warm = opened.warm.kept(opened.settings.model), opened.warm
    kept_before = warm.earlier._trained("retrain").rows
    was_kept = (warm.source >= 0) & kept_before[np.maximum(warm.source, 0)]
    assert kept.rows.sum() == made["retrain"]["rows_kept"]
    assert kept.rows[was_kept].all() and (kept.rows & (warm.source < 0)).any()
    assert made["retrain"]["rows_kept"] <= round(0.5 * warm.prepared.fields.num_features) + 1
    # And as many as a bundle has room for, where that is less.
    cost = open_run(2, first, keep_shape=True, max_bundle_bytes=100_000).bundle_cost
    fields, dims = warm.prepared.fields, np.full(3, 4)
    stand_ins = np.isin(np.arange(fields.num_features), fields.oov_ids)
    takes = [cost.told(cost.of_rows(rows, dims, fields)) for rows in (stand_ins, kept.rows)]
    limit = sum(takes) // 2
    tight = open_run(2, first, keep_shape=True, max_bundle_bytes=limit)
    left = kept_shape(tight)
    assert 3 < left.rows.sum() < kept.rows.sum() and kept.rows[left.rows].all()
    # The next day starts from it, with a search or without.
    assert (
        run(runs.phase_main("supernet"), tmp_path / "third", 1, warm_start=tmp_path / "kept") == 0
    )
    found = summary_of(tmp_path / "third")["supernet"]["warm_start"]
    assert found == {"from": "retrain", "moments": True}


def test_linear_weights_that_were_kept_are_carried_though_their_rows_were_pruned(
    run, tmp_path, open_run
):
    keep = {"mode_linear": "keep"}
    assert run(runs.pipeline_main, tmp_path / "one", 1, **keep) == 0
    opened = open_run(2, tmp_path / "one", **keep)
    warm, fields = opened.warm, opened.prepared.fields
    begun, trained = warm.beginning("retrain"), warm.earlier._trained("retrain")
    is_carried, source = warm.source >= 0, warm.source[warm.source >= 0]
    linear = np.asarray(trained.params.table.linear)
    assert linear[~trained.rows].any()
    found = np.asarray(begun.params.table.linear)[is_carried]
    assert found.tobytes() == linear[source].tobytes()
    memory = array_file.load(tmp_path / "one" / "retrain" / MEMORY)
    for moment in ("mu", "nu"):
        own = getattr(begun.memory.rows, moment).linear[is_carried]
        assert own.tobytes() == memory[f"{moment}/linear"][source].tobytes()
    # The row itself is the stand-in, new, and is not taken as one that was visited in vain.
    was_pruned = is_carried & ~trained.rows[np.maximum(warm.source, 0)]
    rows, stand_ins = np.asarray(begun.params.table.rows), fields.oov_ids[fields.field_of_row]
    assert was_pruned.any() and (rows[was_pruned] == rows[stand_ins[was_pruned]]).all()
    assert not begun.memory.rows.visits[was_pruned].any()
    assert begun.memory.rows.linear_visits[was_pruned].any()
    # On, in stacks of their own and then in one with the rows.
    two = {**keep, "warm_start": tmp_path / "one", "keep_shape": True}
    assert run(runs.pipeline_main, tmp_path / "two", 2, **two) == 0
    three = {**keep, "warm_start": tmp_path / "two"}
    assert run(runs.phase_main("supernet"), tmp_path / "three", 1, **three) == 0
    found = summary_of(tmp_path / "three")["supernet"]["warm_start"]
    assert found == {"from": "retrain", "moments": True}


@pytest.mark.parametrize(
    "how", [{}, {"row_memory": 0.5}, {"keep_shape": True, "max_bundle_bytes": 12_000}]
)
def test_a_finished_run_is_exported_and_told_when_its_source_is_gone(
    run, command, first, tmp_path, capsys, how
):
    """By the flags of any run: the folder, and where to."""
    source, workdir = tmp_path / "yesterday", tmp_path / "today"
    shutil.copytree(first, source)
    given = {"warm_start": source, **how}
    assert run(runs.pipeline_main, workdir, 2, **given) == 0
    told = summary_of(workdir)["warm_start"]
    assert told["source"] == str(source.resolve())
    shutil.move(source, tmp_path / "moved")
    out = {"workdir": workdir, "bundle": tmp_path / "bundle", "platforms": "cpu"}
    assert command(export.main, **out, max_auc_drop=1) == 0
    # Nor does the same command need it, and tells the same again.
    capsys.readouterr()
    assert run(runs.pipeline_main, workdir, 2, **given) == 0
    assert "yesterday is not there any more" in capsys.readouterr().err
    assert summary_of(workdir)["warm_start"] == told
    # What is there has to be the same, wherever it is now.
    assert command(export.main, **out, max_auc_drop=1, warm_start=tmp_path / "moved") == 0
    (tmp_path / "moved" / "retrain" / MEMORY).write_bytes(b"other")
    assert command(export.main, **out, warm_start=tmp_path / "moved") == 2
    assert "was begun with --warm_start=" in capsys.readouterr().err
    # A phase that is still to be run needs it.
    (workdir / "retrain" / "result.json").unlink()
    assert run(runs.pipeline_main, workdir, 2, **given) == 2
    assert "is no finished run" in capsys.readouterr().err


def test_a_run_of_an_older_version_is_exported_by_what_its_phases_recorded(
    run, command, first, tmp_path
):
    source, workdir = tmp_path / "yesterday", tmp_path / "today"
    shutil.copytree(first, source)
    flags = {"warm_start": source, "keep_shape": True}
    assert run(runs.phase_main("retrain"), workdir, 2, **flags) == 0
    shutil.rmtree(source)
    summary = summary_of(workdir)
    del summary["warm_start"]["source"]
    (workdir / "summary.json").write_text(json.dumps(summary))
    out = {"workdir": workdir, "bundle": tmp_path / "bundle", "platforms": "cpu"}
    assert command(export.main, **out) == 0
    made = json.loads((tmp_path / "bundle" / bundle_format.MANIFEST).read_text())
    assert made["metrics"]["test_auc"] == summary["retrain"]["test_auc"]


def test_what_was_carried_is_told_by_a_run_that_was_stopped_before_it_told(run, first, tmp_path):
    workdir = tmp_path / "today"
    flags = {"warm_start": first, "keep_shape": True}
    assert run(runs.pipeline_main, workdir, 2, **flags) == 0
    told = summary_of(workdir)
    (workdir / "summary.json").unlink()
    assert run(runs.pipeline_main, workdir, 2, **flags) == 0
    assert summary_of(workdir)["warm_start"] == told["warm_start"]


def test_a_shape_is_kept_again_or_refused_by_name(run, first, tmp_path, capsys):
    workdir = tmp_path / "today"
    assert run(runs.pipeline_main, workdir, 2, warm_start=first, keep_shape=True) == 0
    for flags in ({}, {"warm_start": first}):
        capsys.readouterr()
        assert run(runs.pipeline_main, workdir, 2, **flags) == 2
        (error,) = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error:")]
        assert f"begun with --warm_start={first.resolve()} " in error and "--keep_shape" in error
        assert "remove" not in error


@pytest.mark.filterwarnings("ignore::optembed_jax.values.unseen.UnseenValues")
def test_a_bundle_is_taken_up_and_scores_as_it_did(bundle, first, open_run):
    """By its own vocabulary: values that it pruned are new, and read their field's stand-in."""
    opened = open_run(1, bundle)
    warm, fields = opened.warm, opened.prepared.fields
    trained = open_run(1, first).warm.earlier._trained("retrain")
    assert ((warm.source >= 0) == trained.rows).all() and not trained.rows.all()
    kept = warm.kept(opened.settings.model)
    assert kept.rows.tolist() == trained.rows.tolist()
    assert kept.dims.tolist() == trained.dims.tolist() == warm.dims().tolist()
    numbers = [f"u{n}" for n in range(0, 60, 3)]
    raw = {"user": numbers, "place": ["p0", "p1", "p2", "p3", "p9"] * 4}
    raw["price"] = np.linspace(2.0, 19.0, 20).tolist()
    expected = NumpyBundle.load(bundle).logits(raw)
    begun = warm.beginning("supernet")
    assert begun.name == "bundle" and begun.memory is None
    ids, model = opened.prepared.encode(raw), opened.settings.model
    found, _ = forward(model, begun.params, begun.batch_stats, ids, Selection())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # The kept rows are the bundle's to the last bit, and those of the run to what 8 bits give.
    rows, own = np.asarray(begun.params.table.rows), np.asarray(trained.params.table.rows)
    scale = np.abs(own).max(axis=1, keepdims=True)
    of_kept = np.flatnonzero(trained.rows)
    assert (np.abs(rows - own) <= scale / 127)[of_kept].all()
    alike = rows[fields.oov_ids][fields.field_of_row[~trained.rows]]
    assert (rows[~trained.rows] == alike).all()


def test_a_day_goes_on_from_a_bundle_and_says_what_it_lacks(run, bundle, tmp_path, capsys):
    flags = {"warm_start": bundle, "keep_shape": True}
    assert run(runs.pipeline_main, tmp_path / "kept", 2, **flags) == 0
    out = capsys.readouterr().out
    assert "rows from bundle" in out and "moments and counts start anew" in out
    made = summary_of(tmp_path / "kept")
    assert made["warm_start"]["kind"] == "bundle" and made["warm_start"]["carried"] > 0
    assert all("gone" not in band for band in made["warm_start"]["by_frequency"])
    assert made["retrain"]["warm_start"] == {"from": "bundle", "moments": False}
    memory = array_file.load(tmp_path / "kept" / "retrain" / MEMORY)
    assert memory["visits"].max() == memory["steps"][0] > 0
    # The same again from the same bundle, and from no other.
    (tmp_path / "kept" / "retrain" / "result.json").unlink()
    assert run(runs.pipeline_main, tmp_path / "kept", 2, **flags) == 0
    again = summary_of(tmp_path / "kept")
    assert again["retrain"]["test_auc"] == made["retrain"]["test_auc"]
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    sums = (other / bundle_format.SUMS).read_text()
    (other / bundle_format.SUMS).write_text("\n".join(sums.splitlines()[::-1]) + "\n")
    assert run(runs.pipeline_main, tmp_path / "kept", 2, **{**flags, "warm_start": other}) == 2
    # What follows is a day like any other.
    given = {"warm_start": tmp_path / "kept"}
    assert run(runs.phase_main("retrain"), tmp_path / "third", 1, **given, keep_shape=True) == 0
    found = summary_of(tmp_path / "third")["retrain"]["warm_start"]
    assert found == {"from": "retrain", "moments": True}


@pytest.mark.parametrize(("model", "is_bundle"), [("fm", False), ("dlrm", True)])
def test_columns_that_no_field_had_are_trained_where_products_alone_are_read(
    command, run, tmp_path, open_run, model, is_bundle
):
    """Of zeros in all fields there is no gradient; so in one field they are none."""
    # A group lasso that takes no row whole in a log so small.
    flags = {"model": model, "mode": "embed", "row_keep": None, "group_lasso": 1e-5}
    for phase in ("choose", "retrain"):
        limit = {"method": "uniform", "max_table_parameters": 120}
        assert run(runs.phase_main(phase), tmp_path / "one", 1, **flags, **limit) == 0
    source = tmp_path / "one"
    if is_bundle:
        source = tmp_path / "bundle"
        given = {"workdir": tmp_path / "one", "bundle": source, "platforms": "cpu"}
        assert command(export.main, **given, max_auc_drop=1) == 0
    today = {**flags, "warm_start": source}
    assert run(runs.phase_main("supernet"), tmp_path / "two", 2, **today) == 0
    opened = open_run(2, source, workdir=tmp_path / "two", **flags)
    fields, config = opened.prepared.fields, opened.settings.model
    rows = np.asarray(opened.warm.beginning("supernet").params.table.rows)
    dims = opened.warm.earlier.dims()
    assert len(set(dims.tolist())) == 1 and dims[0] < 4
    assert (rows[:, : dims[0]] != 0).any(axis=0).all() and not rows[:, dims[0] :].any()
    # Before the first step all logits are what they were; in the first all fields get gradients.
    begun, again = (phase_start.warm_start(opened, "supernet").given for _ in range(2))
    ids, _ = opened.prepared.arrays("test")
    before, after = (
        forward(config, params, begun[1], ids, Selection())[0]
        for params in (opened.warm.beginning("supernet").params, begun[0])
    )
    np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-6)
    assert np.array_equal(begun[0].table.rows, again[0].table.rows)
    trained = load_trained(opened, "supernet", on_host=True)
    moved = np.abs(np.asarray(trained.params.table.rows)[:, dims[0] :])
    for field in range(fields.num_fields):
        assert (moved[fields.field_of_row == field].max(axis=0) > 1e-4).all()
    # What is retrained has them where it reads them, whichever fields those are.
    widest = np.array([dims[0], 4, 3])
    kept = RowsAndDims(np.ones(fields.num_features, bool), widest)
    table = phase_start.warm_start(opened, "retrain", kept).given[0].table.rows
    has = [(table[fields.field_of_row == f] != 0).any(axis=0) for f in range(3)]
    # Of column 3 there is one reader, and no product.
    assert np.sum(has, axis=0)[dims[0] :].tolist() == [1] * (3 - dims[0]) + [0]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"model": "fnn"}, "--model=deepfm, and this run asks for fnn"),
        ({"mlp_dims": "8,8"}, "--mlp_dims=8, and this run asks for 8,8"),
        ({"categorical": "user"}, "a field 'place', too"),
        ({"row_memory": 0.5}, "a bundle never does"),
        ({"row_memory": 1}, "below 1"),
        ({"row_memory": 0.5, "keep_shape": True}, "row_memory has no effect: keep_shape"),
        ({"row_memory": 0.5, "mode_threshold": "field", "row_keep": ""}, "without a budget"),
    ],
)
def test_what_does_not_fit_a_bundle_is_refused_by_name(
    command, days, bundle, tmp_path, capsys, flags, told
):
    at = {"workdir": tmp_path / "run", "table_file": days / "2.csv", "data_dir": days / "data"}
    given = {k: v for k, v in {**SMALL, **at, "warm_start": bundle, **flags}.items() if v != ""}
    capsys.readouterr()
    assert command(runs.pipeline_main, **given) == 2
    (error,) = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error:")]
    assert told in error and not (tmp_path / "run").exists()


def test_a_bundle_that_lacks_its_values_or_is_damaged_is_refused(run, bundle, tmp_path, capsys):
    ids, damaged = tmp_path / "ids", tmp_path / "damaged"
    shutil.copytree(bundle, ids)
    shutil.copytree(bundle, damaged)
    (damaged / bundle_format.WEIGHTS).write_bytes(b"nothing")
    gone = (bundle_format.VOCABULARY, bundle_format.ENCODER)
    lines = (ids / bundle_format.SUMS).read_text().splitlines()
    kept = [line for line in lines if not line.endswith(gone)]
    (ids / bundle_format.SUMS).write_text("\n".join(kept) + "\n")
    for name in gone:
        (ids / name).unlink()
    for folder, told in ((ids, "has no vocabulary"), (damaged, bundle_format.WEIGHTS)):
        capsys.readouterr()
        assert run(runs.pipeline_main, tmp_path / "run", 2, warm_start=folder) == 2
        (error,) = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error:")]
        assert told in error and not (tmp_path / "run").exists()


def test_rows_are_chosen_by_what_they_scored_before_too(run, first, tmp_path, open_run):
    for name, flags in (("alone", {}), ("with", {"row_memory": 0.5})):
        run(runs.phase_main("supernet"), tmp_path / name, 2, warm_start=first, **flags)
    before, alone, both = (
        array_file.load(at / "supernet" / SCORES)["scores"]
        for at in (first, tmp_path / "alone", tmp_path / "with")
    )
    source = open_run(2, first).warm.source
    for row, earlier in enumerate(source):
        expected = 0.5 * alone[row] / alone.sum()
        expected += 0.5 * before[earlier] / before.sum() if earlier >= 0 else 0
        assert both[row] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "how",
    [
        {"table_update": "sparse", "parallelism": "sharded"},
        {"table_update": "dense", "parallelism": "sharded", "exchange": "all_to_all"},
    ],
)
def test_sharded_and_sparse_tables_begin_alike(run, first, days, tmp_path, how):
    whole = days / "whole"
    if not whole.exists():
        assert run(runs.phase_main("supernet"), whole, 2, warm_start=first) == 0
    assert run(runs.phase_main("supernet"), tmp_path / "run", 2, warm_start=first, **how) == 0
    one, other = (array_file.load(at / "supernet" / MEMORY) for at in (whole, tmp_path / "run"))
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_allclose(other[name], array, rtol=2e-2, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("flags", "fits"),
    [({"table_optimiser": "rowwise_adagrad", "table_lr": 0.02}, False), ({}, True)],
)
def test_other_moments_are_not_taken_up_and_the_run_says_so(run, first, tmp_path, flags, fits):
    assert run(runs.phase_main("supernet"), tmp_path / "run", 2, warm_start=first, **flags) == 0
    summary = summary_of(tmp_path / "run")
    assert summary["supernet"]["warm_start"] == {"from": "supernet", "moments": fits}
    told = "\n".join(report.findings(summary))
    assert ("moments started anew: the earlier run left none" in told) != fits


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"model": "fnn"}, "--model=deepfm, and this run asks for fnn"),
        ({"latent_dim": 8}, "--latent_dim=4, and this run asks for 8"),
        ({"mlp_dims": "8,8"}, "--mlp_dims=8, and this run asks for 8,8"),
        ({"mode": "all"}, "--mode=feature, and this run asks for all"),
        ({"mode_oov": "zero"}, "--mode_oov=shared"),
        ({"categorical": "user"}, "a field 'place', too"),
        ({"numeric": "", "categorical": "user,place,price"}, "'price' is categorical now"),
        ({"retrain_from": "fresh"}, "retrain_from=fresh"),
        ({"tune": "rows"}, "tune tries strengths"),
        ({"warm_start": "nowhere"}, "is no finished run"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(run, first, tmp_path, capsys, flags, told):
    capsys.readouterr()
    assert run(runs.pipeline_main, tmp_path / "run", 2, **{"warm_start": first, **flags}) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and told in errors[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("phase", "asked", "lacks"),
    [
        ("baseline", "pipeline", "no supernet or retrain, which the supernet"),
        ("baseline", "supernet", "no supernet or retrain, which the supernet"),
        ("supernet", "pipeline", "no baseline or retrain, which the baseline"),
        ("supernet", "baseline", "no baseline or retrain, which the baseline"),
        ("supernet", "retrain", "no retrain, which the retrain"),
    ],
)
def test_a_run_that_is_not_finished_is_refused_before_anything_is_trained(
    run, days, tmp_path, capsys, phase, asked, lacks
):
    """Though every phase leaves a summary."""
    source = days / f"{phase}_alone"
    assert run(runs.phase_main(phase), source, 1) == 0
    main = runs.pipeline_main if asked == "pipeline" else runs.phase_main(asked)
    capsys.readouterr()
    assert run(main, tmp_path / "run", 2, warm_start=source) == 2
    (error,) = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error:")]
    assert f"{source} is not finished: it has {lacks}" in error
    assert not (tmp_path / "run").exists()


def test_without_its_retraining_no_shape_is_kept_and_nothing_begun(run, first, tmp_path):
    stopped = tmp_path / "stopped"
    shutil.copytree(first, stopped)
    shutil.rmtree(stopped / "retrain")
    for flags in ({"keep_shape": True}, {}):
        assert run(runs.pipeline_main, tmp_path / "run", 2, warm_start=stopped, **flags) == 2
    assert not (tmp_path / "run").exists()


def test_a_run_that_prunes_nothing_is_finished_with_its_baseline(command, days, tmp_path):
    plain = {**SMALL, "mode": "none", "data_dir": days / "data"}
    del plain["row_keep"]
    one, two = ({"workdir": tmp_path / d, "table_file": days / f"{d}.csv", **plain} for d in "12")
    assert command(runs.pipeline_main, **one) == 0
    assert command(runs.pipeline_main, **two, warm_start=tmp_path / "1") == 0
    found = summary_of(tmp_path / "2")["baseline"]["warm_start"]
    assert found == {"from": "baseline", "moments": True}


@pytest.mark.parametrize("phase", ["tune", "choose", "verify"])
def test_a_phase_that_no_warm_start_has_is_refused_by_name(run, first, tmp_path, capsys, phase):
    assert run(runs.phase_main(phase), tmp_path / "run", 2, warm_start=first) == 2
    (error,) = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error:")]
    assert phase in error


def test_what_is_neither_a_run_nor_a_bundle_is_called_so(run, first, bundle, tmp_path, capsys):
    """A saved state has a manifest, as a bundle has; a bundle without its list stays one."""
    state, damaged = first / "retrain" / "state", tmp_path / "damaged"
    assert (state / bundle_format.MANIFEST).exists()
    shutil.copytree(bundle, damaged)
    (damaged / bundle_format.SUMS).unlink()
    for source, told in (
        (state, f"warm_start {state} is no finished run, and no bundle"),
        (damaged, f"{bundle_format.SUMS} cannot be read"),
    ):
        capsys.readouterr()
        assert run(runs.pipeline_main, tmp_path / "run", 2, warm_start=source) == 2
        (error,) = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error:")]
        assert told in error and not (tmp_path / "run").exists()


def test_data_that_are_nowhere_any_more_are_told(run, first, tmp_path, capsys):
    """They are looked for in this run's folder of data, and where yesterday's run had them."""
    moved = tmp_path / "yesterday"
    shutil.copytree(first, moved)
    record = json.loads((moved / "data.json").read_text())
    assert pathlib.Path(record["data_dir"]).is_dir()
    (moved / "data.json").write_text(json.dumps(record | {"data_dir": str(tmp_path / "gone")}))
    flags = {"warm_start": moved, "data_dir": tmp_path / "elsewhere"}
    assert run(runs.pipeline_main, tmp_path / "run", 2, **flags) == 2
    (error,) = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error:")]
    assert "not in --data_dir" in error and "gone" in error
    assert not (tmp_path / "run").exists()


def test_an_empty_name_is_no_start_from_nothing(run, tmp_path, capsys):
    assert run(runs.pipeline_main, tmp_path / "run", 2, warm_start="") == 2
    assert "warm_start is empty" in capsys.readouterr().err


def test_a_shape_is_kept_only_of_an_earlier_run(run, tmp_path, capsys):
    assert run(runs.pipeline_main, tmp_path / "run", 2, keep_shape=True) == 2
    assert "--warm_start=DIR" in capsys.readouterr().err
