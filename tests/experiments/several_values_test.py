"""A column whose cells hold several values, from a file to scores of a file."""

import csv
import json
import os
import shutil
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments import export, predict
from experiments.run import runs, sample_rows
from optembed_jax import data
from optembed_jax.bundle import Bundle
from optembed_jax.numpy_bundle import NumpyBundle
from optembed_jax.values.cells import with_slots

GENRES = ("war", "sci", "art", "doc", "fun", "kid")
SMALL = {
    "dataset": "table",
    "label": "click",
    "categorical": "user",
    "multi": "genres",
    "model": "deepfm",
    "latent_dim": 4,
    "mlp_dims": "8",
    "batch_size": 64,
    "epochs": 3,
    "lr": 0.01,
    "row_keep": 0.7,
    "generations": 2,
    "mutation_num": 3,
    "crossover_num": 3,
    "top_k": 3,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same rows as text and with lists; a click is likely where there is a war."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("files")
    cells = [rng.choice(GENRES, rng.integers(1, 4), replace=False).tolist() for _ in range(1500)]
    users = [f"u{n}" for n in rng.integers(0, 30, len(cells))]
    clicks = [int(rng.random() < (0.9 if "war" in cell else 0.1)) for cell in cells]
    lines = [f"{u},{'|'.join(c)},{y}" for u, c, y in zip(users, cells, clicks, strict=True)]
    (folder / "rows.csv").write_text("\n".join(["user,genres,click", *lines]) + "\n")
    pq.write_table(
        pa.table({"user": users, "genres": cells, "click": clicks}), folder / "rows.parquet"
    )
    return folder


@pytest.fixture(scope="module", params=["csv", "parquet"])
def made(request, command, files, tmp_path_factory):
    """A folder with a run and its bundle, and the kind of its file."""
    folder, kind = tmp_path_factory.mktemp(request.param), request.param
    more = {"separator": "|"} if kind == "csv" else {"mode_oov": "shared", "mode_linear": "prune"}
    names = {"data_dir": "data", "workdir": "run"}
    source = {"table_file": os.path.relpath(files / f"rows.{kind}", folder)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # As people do, who give paths as they see them from there.
        assert command(runs.pipeline_main, **names, **source, **SMALL, **more) == 0
        assert command(export.main, **names, bundle="bundle", sample="sample") == 0
    return folder, kind


def scores_of(command, folder, source, capsys):
    target = folder / "scores.csv"
    target.unlink(missing_ok=True)
    status = command(predict.main, bundle=folder / "bundle", input=source, output=target)
    if status:
        return capsys.readouterr().err
    with target.open() as stream:
        return np.array([float(row["probability"]) for row in csv.DictReader(stream)])


def test_the_whole_method_learns_from_values_and_serves_them(made, command, files, capsys):
    folder, kind = made
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert all(summary[phase]["test_auc"] > 0.85 for phase in ("baseline", "retrain"))
    (prepared,) = (data.load(path) for path in folder.glob("data/table/*/*"))
    bundle, plain = Bundle.load(folder / "bundle"), NumpyBundle.load(folder / "bundle")
    found = scores_of(command, folder, files / f"rows.{kind}", capsys)
    table = pq.read_table(files / "rows.parquet")
    cells = table["genres"].to_pylist()
    wars = np.array(["war" in cell for cell in cells])
    assert found[wars].mean() > 0.6 > 0.4 > found[~wars].mean()
    rows = {"user": table["user"].to_pylist(), "genres": cells}
    for served in (bundle, plain):
        np.testing.assert_allclose(served.predict(rows), found, rtol=1e-4, atol=1e-6)
    turned = {**rows, "genres": [cell[::-1] for cell in cells]}
    np.testing.assert_allclose(plain.predict(turned), found, rtol=1e-4, atol=1e-6)
    # A value that was pruned is an unseen one, and each of a cell reads the stand-in.
    ids, vocabulary = bundle.encode(rows)[:100], bundle.encoder.vocabulary
    for own, cell in zip(ids[:, 1:], cells[:100], strict=True):
        wanted = [vocabulary.id("genres", value) for value in cell]
        assert own[: len(cell)].tolist() == wanted
        assert (own[len(cell) :] == bundle.fields.num_features).all()
    if bundle.fields.sizes == prepared.fields.sizes:
        ids, _ = prepared.arrays("test")
        wide = with_slots(
            ids, prepared.fields.slots, bundle.fields.slots, bundle.fields.num_features
        )
        np.testing.assert_allclose(plain.logits(wide), bundle.logits(wide), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("made", ["csv"], indirect=True)
def test_a_finished_run_is_exported_from_any_folder(made, command, files, tmp_path, monkeypatch):
    """By its workdir alone, whose paths were relative ones, also when the raw file is gone."""
    folder, kind = made
    shutil.copytree(folder / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    (files / f"rows.{kind}").rename(files / "moved")
    try:
        assert command(export.main, workdir="run", bundle="bundle") == 0
    finally:
        (files / "moved").rename(files / f"rows.{kind}")
    one, other = (path / "bundle" / "SHA256SUMS" for path in (folder, tmp_path))
    assert one.read_bytes() == other.read_bytes()


def test_the_sample_rows_are_those_of_the_file(made, command, files, capsys):
    folder, kind = made
    sample = scores_of(command, folder, folder / "sample", capsys)
    scores = scores_of(command, folder, files / f"rows.{kind}", capsys)
    np.testing.assert_array_equal(sample, scores[: sample_rows.ROWS])


def test_a_pipe_is_read_like_a_file(made, command, files, capsys):
    """It is there once, and whether it is text is found by looking at it before it is read."""
    folder, kind = made
    expected = scores_of(command, folder, files / f"rows.{kind}", capsys)
    for content in ((files / f"rows.{kind}").read_bytes(), b""):
        pipe = folder / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(content,))
        writer.start()
        found = scores_of(command, folder, pipe, capsys)
        writer.join()
        pipe.unlink()
        if content:
            np.testing.assert_array_equal(found, expected)
        else:
            assert f"{pipe} is empty" in found


def test_a_folder_of_parts_is_scored_in_the_order_of_their_names(
    made, command, files, tmp_path, capsys
):
    folder, kind = made
    expected = scores_of(command, folder, files / f"rows.{kind}", capsys)
    parts = tmp_path / "parts"
    for name in (f"b/1.{kind}", f"a/2.{kind}", f"a/_0.{kind}"):
        (parts / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(files / f"rows.{kind}", parts / name)
    np.testing.assert_array_equal(
        scores_of(command, folder, parts, capsys), np.concatenate([expected, expected])
    )
    pattern = parts / "*" / f"1.{kind}"
    np.testing.assert_array_equal(scores_of(command, folder, pattern, capsys), expected)
    for source in (parts, parts / "*.csv"):
        inside = {"bundle": folder / "bundle", "input": source, "output": parts / "scores.csv"}
        shutil.copy(files / f"rows.{kind}", parts / "1.csv")
        assert command(predict.main, **inside) == 2
        assert "lies in the --input" in capsys.readouterr().err


def test_the_other_kind_of_file_is_read_or_refused(made, command, files, capsys):
    folder, kind = made
    if kind == "csv":  # lists say which values there are, whatever the text had
        lists = scores_of(command, folder, files / "rows.parquet", capsys)
        texts = scores_of(command, folder, files / "rows.csv", capsys)
        np.testing.assert_allclose(lists, texts, rtol=1e-6)
    else:
        said = scores_of(command, folder, files / "rows.csv", capsys)
        assert "column 'genres' holds several values, but nothing says what stands between" in said


def test_a_run_that_goes_on_is_the_run_that_never_stopped(command, files, tmp_path):
    """One phase after another, each in a command of its own, gives the same numbers."""
    names = {"data_dir": tmp_path / "data", "table_file": files / "rows.csv", "separator": "|"}
    results = []
    for run in ("whole", "parts"):
        given = {**names, "workdir": tmp_path / run, **SMALL, "pooling": "sum"}
        if run == "parts":
            for phase in ("baseline", "supernet"):
                assert command(runs.phase_main(phase), **given) == 0
        assert command(runs.pipeline_main, **given) == 0
        summary = json.loads((tmp_path / run / "summary.json").read_text())
        results.append([summary[phase]["test_auc"] for phase in ("baseline", "retrain")])
    assert results[0] == results[1]
