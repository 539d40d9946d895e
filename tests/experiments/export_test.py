"""Export and predict, end to end, on a small run; real data are in predict_test.py."""

import concurrent.futures
import gzip
import json
import os
import pathlib
import re
import runpy
import shutil
import signal
import subprocess
import sys
import types
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver
from future_module import from_the_future, put_module
from small_run import DATA

import optembed_jax
from experiments import export, predict
from experiments.run import compression_report, runs, sample_rows
from experiments.run.progress import Progress
from experiments.run.search_options import SearchOptions
from optembed_jax import data
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.forward_module import ForwardRebuilt
from optembed_jax.targets.registry import TARGETS
from optembed_jax.values.cells import cell_text

FLAGS = {
    **DATA,
    "latent_dim": 4,
    "mlp_dims": "8",
    "batch_size": 256,
    "epochs": 2,
    "t_lr": 0.1,
    "alpha": 0.01,
    "generations": 1,
    "mutation_num": 2,
    "crossover_num": 2,
    "top_k": 2,
    # A bundle with the ids of the prepared data, which these tests go by.
    "mode_oov": "oov",
    "mode_linear": "keep",
    "pad_for": "v6e-1",  # 2 SparseCores of 8 rows and 8 lanes.
}


DOC = (pathlib.Path(__file__).parents[2] / "docs" / "serving.md").read_text()


def rows_of_targets():
    """What makes each target, by the table of docs/serving.md."""
    section = DOC.split("## Where else it can be served")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)`", section, re.M)


OF_THE_BUNDLE, *OF_FORMATS, OF_TABLES = rows_of_targets()


def documented(row, **places):
    """The arguments of a row's command, with places for those that it names."""
    name, *arguments = row.split()
    assert name == "export"
    for written, place in places.items():
        found = [argument.replace(f"={written}", f"={place}") for argument in arguments]
        assert found != arguments, f"{row} names no {written}"
        arguments = found
    return arguments


@pytest.fixture(scope="module")
def made(command, tmp_path_factory):
    """A run, its bundle, a sample of raw rows, and the folder of prepared data."""
    folder = tmp_path_factory.mktemp("serving")
    names = {"data_dir": folder / "data", "workdir": folder / "run"}
    assert command(runs.pipeline_main, **names, **FLAGS) == 0
    bundle = documented(OF_THE_BUNDLE, DIR=folder / "run", OUT=folder / "bundle")
    written = {"data_dir": folder / "data", "sample": folder / "rows.csv"}
    assert command(export.main, *bundle, **written) == 0
    return folder


def only_data(made):
    (folder,) = made.glob("data/synthetic/*/*")
    return data.load(folder)


def test_the_bundle_has_the_auc_of_the_retrained_model(made):
    prepared = only_data(made)
    recorded = json.loads((made / "run" / "summary.json").read_text())["retrain"]
    ids, labels = prepared.arrays("test")
    bundle = Bundle.load(made / "bundle")
    logits = bundle.logits(ids)
    clicked, other = logits[labels > 0][:, None], logits[labels == 0][None, :]
    auc = np.mean((clicked > other) + 0.5 * (clicked == other))
    assert abs(auc - recorded["test_auc"]) < 1e-6
    assert bundle.manifest["metrics"]["test_auc"] == recorded["test_auc"]
    assert bundle.manifest["flags"]["latent_dim"] == 4


def test_sizes_on_the_chips_that_tables_are_counted_for(made):
    options = SearchOptions(pad_for=FLAGS["pad_for"])
    model = types.SimpleNamespace(latent_dim=4)
    settings = types.SimpleNamespace(search_options=options, model=model)
    bundle, prepared = Bundle.load(made / "bundle"), only_data(made)
    ((name, full, small, _),) = compression_report._on_sparse_cores(
        types.SimpleNamespace(settings=settings, prepared=prepared), bundle
    )
    kept = [field["rows"] for field in bundle.manifest["fields"] if field["dim"]]
    assert name == "on v6e-1, bytes"
    assert full == sum(4 * 8 * 16 * -(-rows // 16) for rows in prepared.fields.sizes)
    assert small == sum(4 * 8 * 16 * -(-rows // 16) for rows in kept)
    assert bundle.manifest["pad_for"] == FLAGS["pad_for"]


def test_sampled_negatives_are_counted_in(made, command, tmp_path):
    names = {"data_dir": made / "data", "workdir": made / "run", "bundle": tmp_path / "bundle"}
    assert command(export.main, **names, negative_rate=0.25) == 0
    found, sampled = Bundle.load(tmp_path / "bundle"), Bundle.load(made / "bundle")
    rows = pyarrow.csv.read_csv(made / "rows.csv")
    expected = sampled.logits(rows) + np.log(0.25)
    np.testing.assert_allclose(found.logits(rows), expected, atol=1e-5)
    assert command(export.main, **names, negative_rate=0) == 2


def test_a_clone_that_is_not_installed_exports_too(made, command, tmp_path, not_installed):
    names = {"data_dir": made / "data", "workdir": made / "run", "bundle": tmp_path / "bundle"}
    assert command(export.main, **names) == 0
    versions = Bundle.load(tmp_path / "bundle").manifest["versions"]
    assert versions["optembed-jax"] == optembed_jax.__version__


def test_a_module_that_jax_does_not_take_is_written_anew(made, command, tmp_path, capfd):
    bundle = shutil.copytree(made / "bundle", tmp_path / "bundle")
    before = Bundle.load(bundle)
    put_module(bundle, from_the_future)
    arguments = {"input": made / "rows.csv", "output": tmp_path / "scores.csv"}
    with pytest.warns(ForwardRebuilt, match="is not used") as told:
        assert command(predict.main, bundle=bundle, **arguments) == 0
    line = warnings.formatwarning(told[0].message, told[0].category, told[0].filename, 1)
    assert line.startswith(f"warning: {bundle / 'forward.jax_export.xz'}, written by jax ")
    assert line.count("\n") == 1  # As a person sees it, without the source that told it.
    expected = before.predict(pyarrow.csv.read_csv(made / "rows.csv"))
    scores = pyarrow.csv.read_csv(tmp_path / "scores.csv")["probability"].to_numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert command(export.main, "--refresh", bundle=bundle) == 0
    assert "module written anew by jax" in capfd.readouterr().out
    assert (bundle / "SHA256SUMS").read_bytes() == (made / "bundle" / "SHA256SUMS").read_bytes()
    # A module for elsewhere cannot be tried, and is what was asked for: no warning.
    assert command(export.main, "--refresh", bundle=bundle, platforms="tpu") == 0
    assert "its module, for tpu, was not tried here" in capfd.readouterr().out
    assert command(export.main, "--refresh", bundle=tmp_path / "nowhere") == 2
    assert "is not a folder" in refused(capfd)


def test_each_target_is_in_the_table():
    """The bundle itself is written by the fixture's command, the tables by the last row's."""
    assert {re.search(r"--format=(\w+)", row)[1] for row in OF_FORMATS} == set(TARGETS)
    assert OF_THE_BUNDLE.startswith("export ") and OF_TABLES.startswith("interop.")


@pytest.mark.parametrize("row", OF_FORMATS)
def test_the_commands_of_the_table_of_targets_run(made, command, tmp_path, capsys, row):
    target = TARGETS[re.search(r"--format=(\w+)", row)[1]]
    library = {"onnx": "onnxruntime", "torch": "torch"}[target.name]
    pytest.importorskip(library, reason=f"the extra [{target.extra}] is not installed")
    name = re.search(r"--output=(\S+)", row)[1]
    arguments = documented(row, **{"OUT": made / "bundle", name: tmp_path / name})
    assert command(export.main, *arguments) == 0
    assert "gives the bundle's logits" in capsys.readouterr().out
    (written,) = tmp_path.iterdir()
    assert written.is_dir() == target.is_folder


def test_the_python_of_other_libraries_gives_tables_and_their_rows(made):
    section = DOC.split("\n## Other libraries")[1]
    block = re.search(r"```python\n(.*?)```", section, re.S)[1]
    assert OF_TABLES in block
    bundle = Bundle.load(made / "bundle")
    given = {"bundle": bundle, "batch_size": 64, "sparse_cores": 4}
    given["ids"] = ids = only_data(made).arrays("test")[0][:64]
    exec(block, given)
    tables = [field for field in bundle.manifest["fields"] if field["dim"]]
    shapes = {field["name"]: (field["rows"], field["dim"]) for field in tables}
    assert {name: rows.shape for name, rows in given["values"].items()} == shapes
    assert all(len(at) == len(ids) for at in given["places"].values())
    assert len(given["places"]) == len(tables)


def test_a_bundle_is_written_for_onnxruntime(made, command, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    names = {"bundle": made / "bundle", "format": "onnx", "output": tmp_path / "model.onnx"}
    assert command(export.main, **names) == 0
    assert "gives the bundle's logits" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(names["output"])
    rows = pyarrow.csv.read_csv(made / "rows.csv")
    feed = {i.name: np.array(rows[i.name].to_pylist(), object) for i in session.get_inputs()}
    feed = {name: np.array([str(v) for v in values], object) for name, values in feed.items()}
    expected = Bundle.load(made / "bundle").predict(rows)
    np.testing.assert_allclose(session.run(["probability"], feed)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"format": "onyx"}, "--format is one of bundle, onnx"),
        ({"format": "onnx"}, "--output is missing"),
        ({"format": "onnx", "output": "{bundle}/model.onnx"}, "is in the bundle; write beside it"),
        ({"format": "onnx", "output": "{tmp}"}, "is a folder, and --format=onnx a file"),
        ({"format": "onnx", "refresh": "true"}, "--refresh has no effect with --format=onnx"),
        ({"format": "onnx", "storage": "int8"}, "--storage has no effect with --format=onnx"),
        ({"refresh": "true", "storage": "int8"}, "--storage has no effect with --refresh"),
        ({"refresh": "true", "output": "{tmp}/x"}, "--output has no effect with --refresh"),
        ({"takes_ids": "true"}, "--takes_ids has no effect with --format=bundle"),
    ],
)
def test_what_cannot_be_written(made, command, tmp_path, capsys, flags, message):
    places = {"bundle": made / "bundle", "tmp": tmp_path}
    given = {name: value.format(**places) for name, value in flags.items()}
    assert command(export.main, bundle=made / "bundle", **given) == 2
    assert message in refused(capsys)
    assert list(tmp_path.iterdir()) == [] and not (made / "bundle" / "model.onnx").exists()


def test_raw_rows_score_as_their_ids(made, command, tmp_path):
    for name in ("rows.csv", "rows.csv.gz", "rows.tsv"):
        content = (made / "rows.csv").read_bytes()
        if name.endswith("gz"):
            content = gzip.compress(content)
        if name.endswith("tsv"):
            content = content.replace(b",", b"\t")
        (tmp_path / name).write_bytes(content)
        status = command(
            predict.main,
            bundle=made / "bundle",
            input=tmp_path / name,
            output=tmp_path / "scores.csv",
        )
        assert status == 0
        scores = pyarrow.csv.read_csv(tmp_path / "scores.csv")["probability"].to_numpy()
        prepared = only_data(made)
        ids = prepared.encode(pyarrow.csv.read_csv(made / "rows.csv"))
        # As many at once as the command has, since another program may add up in another order.
        filled = np.pad(ids, ((0, 2048 - len(ids)), (0, 0)), mode="edge")
        expected = Bundle.load(made / "bundle").predict(filled, batch_size=2048)[: len(ids)]
        np.testing.assert_array_equal(scores.astype(np.float32), expected)


def test_rows_are_streamed_in_blocks(made, command, monkeypatch, tmp_path):
    monkeypatch.setattr(predict, "BLOCK_BYTES", 2000)
    arguments = {"bundle": made / "bundle", "input": made / "rows.csv"}
    assert command(predict.main, **arguments, output=tmp_path / "small.csv") == 0
    monkeypatch.setattr(predict, "BLOCK_BYTES", 2**24)
    assert command(predict.main, **arguments, output=tmp_path / "large.csv") == 0
    found = [
        pyarrow.csv.read_csv(tmp_path / f"{name}.csv")["probability"].to_numpy()
        for name in ("small", "large")
    ]
    np.testing.assert_allclose(*found, rtol=1e-6)


def refused(capsys):
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "rows.csv is empty"),
        (b"other\n1\n", "has no column 'signal_0'; its header has other"),
        (b"x,y\n1\n", "has no column 'signal_0'; its header has x, y"),
        (b"signal_0, signal_0\nv1,v2\n", "has more than one column 'signal_0'"),
        (b"signal_0|x|signal_0 \n1|2|3\n", "has more than one column 'signal_0'"),
        (
            b'{"signal_0": "v1", "signal_1": "v1", "noise_0": "v1", "noise_0": "v2"}\n' * 2,
            "line 1: column 'noise_0' is there twice",
        ),
        (b'{"x": 1}\n', "has no column 'signal_0' in its first 1 rows; they have x"),
    ],
)
def test_refuses_unusable_rows_and_leaves_nothing(
    made, command, tmp_path, capsys, content, message
):
    (tmp_path / "rows.csv").write_bytes(content)
    arguments = {"bundle": made / "bundle", "input": tmp_path / "rows.csv"}
    assert command(predict.main, **arguments, output=tmp_path / "scores.csv") == 2
    assert message in refused(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_refuses_rows_cut_off_or_of_other_text(made, command, tmp_path, capsys):
    good = (made / "rows.csv").read_bytes()
    for content in (good + b'"1","2"\n', good + b"\xff,\xff\n"):
        (tmp_path / "rows.csv").write_bytes(content)
        arguments = {"bundle": made / "bundle", "input": tmp_path / "rows.csv"}
        assert command(predict.main, **arguments, output=tmp_path / "out.csv") == 2
        assert "cannot be read" in refused(capsys)
        assert not (tmp_path / "out.csv").exists()


def test_predict_as_a_person_runs_it_takes_the_flags_of_a_run(made, tmp_path):
    """One flagfile serves all; --help is of what is read."""

    def run(*flags):
        line = [sys.executable, "-m", "experiments.predict", *flags]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    file = tmp_path / "a.flags"
    file.write_text(f"--bundle={made / 'bundle'}\n--model=fnn\n--lr=0.1\n--batch_size=64\n")
    flags = [f"--flagfile={file}", f"--input={made / 'rows.csv'}"]
    flags.append(f"--output={tmp_path / 'scores.csv'}")
    refused = run(*flags, "--no_such_flag=1")
    assert refused.returncode == 2 and not (tmp_path / "scores.csv").exists()
    assert refused.stderr.splitlines() == ["error: Unknown command line flag 'no_such_flag'"]
    done = run(*flags, "--latent_dim", "4")
    assert done.returncode == 0, done.stderr
    found = pyarrow.csv.read_csv(tmp_path / "scores.csv").column(0).to_numpy()
    expected = Bundle.load(made / "bundle").predict(pyarrow.csv.read_csv(made / "rows.csv"))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    said = run("--help").stdout
    assert "--max_unseen:" in said and "--decimal:" in said and "--latent_dim" not in said


def test_sigterm_leaves_the_older_scores_and_is_no_success(made, monkeypatch, tmp_path, capsys):
    older = tmp_path / "scores.csv"
    older.write_text("of yesterday")
    flags = {"bundle": made / "bundle", "input": made / "rows.csv", "output": older}
    monkeypatch.setattr(Progress, "update", lambda *_: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(sys, "argv", ["predict", *(f"--{k}={v}" for k, v in flags.items())])
    before = signal.getsignal(signal.SIGTERM)
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
        absl_flags.FLAGS.unparse_flags()
        runpy.run_path(predict.__file__, run_name="__main__")
    signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 143
    assert capsys.readouterr().err.splitlines()[-1].startswith("stopped by SIGTERM before its end")
    assert older.read_text() == "of yesterday" and os.listdir(tmp_path) == ["scores.csv"]


def test_inputs_links_and_bundles_are_spared(made, command, tmp_path, capsys):
    rows, bundle = tmp_path / "rows.csv", tmp_path / "bundle"
    shutil.copy(made / "rows.csv", rows)
    shutil.copytree(made / "bundle", bundle)
    before = {path: path.read_bytes() for path in [rows, *bundle.iterdir()]}
    (tmp_path / "link.csv").symlink_to(rows)
    (tmp_path / "hard.csv").hardlink_to(rows)
    (tmp_path / "circle.csv").symlink_to("circle.csv")
    for source, target, message in (
        (rows, rows, "is the --input"),
        (rows, tmp_path / "link.csv", "is the --input"),
        (tmp_path / "link.csv", rows, "is the --input"),
        (rows, tmp_path / "hard.csv", "is the --input"),
        (rows, bundle / "manifest.json", "lies in the bundle"),
        (rows, bundle / "new.csv", "lies in the bundle"),
        (rows, tmp_path, "is a folder"),
        (rows, tmp_path / "circle.csv", "leads in a circle"),
    ):
        assert command(predict.main, bundle=bundle, input=source, output=target) == 2
        assert message in refused(capsys)
    assert {path: path.read_bytes() for path in [rows, *bundle.iterdir()]} == before
    assert (tmp_path / "link.csv").is_symlink()

    (tmp_path / "old.csv").write_text("old\n")
    (tmp_path / "to_old.csv").symlink_to("old.csv")
    (tmp_path / "to_none.csv").symlink_to("none.csv")
    os.mkfifo(tmp_path / "pipe")
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        piped = reader.submit((tmp_path / "pipe").read_text)
        for target in ("scores.csv", "to_old.csv", "to_none.csv", "pipe"):
            output = tmp_path / target
            assert command(predict.main, bundle=bundle, input=rows, output=output) == 0
        scores = (tmp_path / "scores.csv").read_text()
        assert piped.result() == scores
    for link, target in (("to_old.csv", "old.csv"), ("to_none.csv", "none.csv")):
        assert (tmp_path / link).is_symlink()
        assert (tmp_path / target).read_text() == scores


def test_refusals_of_flags(made, command, tmp_path, capsys):
    assert command(predict.main, bundle=made / "bundle") == 2
    assert "--input is missing" in refused(capsys)
    arguments = {"input": made / "rows.csv", "output": tmp_path / "out.csv"}
    assert command(predict.main, bundle=made / "bundle", batch_size=0, **arguments) == 2
    assert "--batch_size must be at least 1, not 0" in refused(capsys)
    assert command(predict.main, bundle=tmp_path / "none", **arguments) == 2
    assert "no bundle at" in refused(capsys)
    arguments["input"] = tmp_path / "none.csv"
    assert command(predict.main, bundle=made / "bundle", **arguments) == 2
    assert "none.csv does not exist; correct input" in refused(capsys)
    assert command(export.main, workdir=tmp_path, bundle=tmp_path / "b") == 2
    assert "no finished run" in refused(capsys)


def test_quantised_export(made, command, tmp_path, capsys):
    arguments = {"data_dir": made / "data", "workdir": made / "run", "bundle": tmp_path / "b"}
    status = command(export.main, **arguments, storage="int4", max_auc_drop=0.0, fine_tune_steps=0)
    assert status == 2
    assert "costs" in refused(capsys)
    assert not (tmp_path / "b").exists()
    assert command(export.main, **arguments, storage="int8", max_auc_drop=0.1) == 0
    metrics = Bundle.load(tmp_path / "b").manifest["metrics"]
    assert metrics["val_auc_float32"] - metrics["val_auc_stored"] <= 0.1


def with_new_values(made, path, share):
    """The sample with so large a share of new values of one field."""
    table = pyarrow.csv.read_csv(made / "rows.csv")
    values = [
        f"new {n}" if n < share * table.num_rows else value
        for n, value in enumerate(table["signal_1"].to_pylist())
    ]
    number = table.column_names.index("signal_1")
    pyarrow.csv.write_csv(table.set_column(number, "signal_1", [values]), path)
    return table.num_rows


def test_values_without_a_row_are_told_by_field(made, command, tmp_path, capsys):
    arguments = {"bundle": made / "bundle", "output": tmp_path / "scores.csv"}
    assert command(predict.main, **arguments, input=made / "rows.csv") == 0
    assert "warning" not in capsys.readouterr().err
    rows = with_new_values(made, tmp_path / "new.csv", 0.6)
    assert command(predict.main, **arguments, input=tmp_path / "new.csv") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == 1 and f"field 'signal_1': {0.6 * rows:,.0f} of {rows:,} rows" in said[0]


@pytest.mark.parametrize(("allowed", "status"), [(0.0, 2), (0.55, 2), (0.7, 0), (1.0, 0)])
def test_too_many_values_without_a_row_are_refused(
    made, command, tmp_path, capsys, allowed, status
):
    with_new_values(made, tmp_path / "new.csv", 0.6)
    arguments = {"bundle": made / "bundle", "input": tmp_path / "new.csv"}
    output = tmp_path / "scores.csv"
    assert command(predict.main, **arguments, output=output, max_unseen=allowed) == status
    assert output.exists() == (status == 0)
    if status:
        assert "field 'signal_1'" in (said := refused(capsys)) and "nothing was written" in said
    assert {path.name for path in tmp_path.iterdir()} <= {"new.csv", "scores.csv"}


@pytest.mark.parametrize("weighted", [False, True])
def test_items_of_a_sample_are_those_of_the_cell(weighted):
    cell = [("red", "0.5"), ("old", "2")] if weighted else ["red", "old"]
    text = cell_text(cell, weighted)
    assert cell_text(json.loads(json.dumps(sample_rows.items(text))), weighted) == text


def test_the_form_of_scores_is_that_of_the_name_given_or_of_what_it_leads_to(
    made, command, tmp_path, capsys
):
    arguments = {"bundle": made / "bundle", "input": made / "rows.csv"}
    (tmp_path / "a.parquet").symlink_to("b")
    (tmp_path / "c").symlink_to("d.parquet")
    for name, written in (("a.parquet", "b"), ("c", "d.parquet")):
        assert command(predict.main, **arguments, output=tmp_path / name) == 0
        assert pq.read_table(tmp_path / written).column_names == ["probability"]
    for name in ("scores.csv.gz", "a.jsonl", "a.feather", "a.ARROW", "a.xlsx", "a.npy"):
        assert command(predict.main, **arguments, output=tmp_path / name) == 2
        assert "scores are written as CSV, or as Parquet" in refused(capsys)
        assert not (tmp_path / name).exists()
    for name in ("scores", "scores.txt", "of.2024-03-02", "scores.v2"):  # Which ask for no form.
        assert command(predict.main, **arguments, output=tmp_path / name) == 0
        assert (tmp_path / name).read_text().startswith('"probability"\n')
    home = {**arguments, "output": "~no_such_user/scores.csv"}
    assert command(predict.main, **home) == 2
    assert "no home folder is known of ~no_such_user" in refused(capsys)


def test_rows_and_scores_in_other_forms(made, command, tmp_path):
    """One score for each row, in order, whatever the input is; Parquet where the name asks."""
    rows = pyarrow.csv.read_csv(made / "rows.csv")
    expected = Bundle.load(made / "bundle").predict(only_data(made).encode(rows))
    lines = (made / "rows.csv").read_bytes().split(b"\n", 1)
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=7)
    objects = "".join(json.dumps(row) + "\n\n" for row in rows.to_pylist())
    (tmp_path / "rows.json").write_text(objects)
    (tmp_path / "rows.zst").write_bytes(
        pa.Codec("zstd").compress((made / "rows.csv").read_bytes(), asbytes=True)
    )
    (tmp_path / "rows.utf16").write_bytes((made / "rows.csv").read_text().encode("utf-16"))
    (tmp_path / "rows.none").write_bytes(lines[1].replace(b",", b"^"))
    for name, flags in (
        ("rows.parquet", {}),
        ("rows.json", {}),
        ("rows.zst", {}),
        ("rows.utf16", {"encoding": "utf-16"}),
        ("rows.none", {"columns": ",".join(rows.column_names), "delimiter": "^"}),
    ):
        output = tmp_path / "scores.parquet"
        status = command(
            predict.main,
            bundle=made / "bundle",
            input=tmp_path / name,
            output=output,
            batch_size=300,
            **flags,
        )
        assert status == 0, name
        found = pq.read_table(output)
        assert found.schema == pa.schema([("probability", pa.float32())])
        np.testing.assert_allclose(found["probability"].to_numpy(), expected, rtol=1e-6)
        assert pq.read_metadata(output).num_row_groups == 1
    arguments = {"bundle": made / "bundle", "input": tmp_path / "rows.none"}
    assert command(predict.main, **arguments, output=tmp_path / "o.csv", decimal="x") == 2
    assert not (tmp_path / "o.csv").exists()
