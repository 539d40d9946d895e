"""Export and predict on real data, from raw files to scores; small cases are in export_test.py."""

import importlib.util
import json
import warnings

import numpy as np
import pyarrow.csv
import pytest

from experiments import export, predict
from experiments.run import runs
from optembed_jax import data
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.values.unseen import UnseenValues

SETTINGS = {
    "latent_dim": 8,
    "mlp_dims": "16",
    "row_keep": 0.2,
    # A bundle with the ids of the prepared data, which these tests go by.
    "mode_oov": "oov",
    "mode_linear": "keep",
    "batch_size": 2048,
    "epochs": 1,
    "generations": 1,
    "finalists": False,
    "mutation_num": 2,
    "crossover_num": 2,
    "top_k": 2,
}


@pytest.fixture(scope="module", params=["flights", "movielens"])
def made(request, command, tmp_path_factory):
    """A folder with a run, its bundle, raw rows and their scores; and the prepared data."""
    folder = tmp_path_factory.mktemp(request.param)
    source = {"dataset": request.param}
    if request.param == "movielens":
        # Genres as one value, which all forms of a bundle have; several_values_test.py has bags.
        source |= {"raw_dir": request.getfixturevalue("movielens_dir"), "multi": ""}
    names = {"data_dir": folder / "data", "workdir": folder / "run"}
    assert command(runs.pipeline_main, **names, **source, **SETTINGS) == 0
    assert command(export.main, **names, bundle=folder / "bundle", sample=folder / "rows.csv") == 0
    files = {"input": folder / "rows.csv", "output": folder / "scores.csv"}
    assert command(predict.main, bundle=folder / "bundle", **files) == 0
    (prepared,) = folder.glob(f"data/{request.param}/*/*")
    return folder, data.load(prepared)


def auc_by_ranks(labels, logits):
    """Mann and Whitney's statistic, of the mean ranks of equal logits."""
    _, place, count = np.unique(logits, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    clicks = int(labels.sum())
    return (ranks[labels > 0].sum() - clicks * (clicks + 1) / 2) / (clicks * (len(labels) - clicks))


def test_the_loaded_bundle_has_the_auc_of_the_retrained_model(made):
    folder, prepared = made
    recorded = json.loads((folder / "run" / "summary.json").read_text())["retrain"]["test_auc"]
    ids, labels = prepared.arrays("test")
    for loader in (Bundle, NumpyBundle):
        found = auc_by_ranks(labels, loader.load(folder / "bundle").logits(ids))
        assert abs(found - recorded) < 1e-6
    assert recorded > 0.6


def test_the_bundle_is_smaller_than_the_baseline_by_what_was_pruned(made):
    folder, _ = made
    summary = json.loads((folder / "run" / "summary.json").read_text())
    baseline, fields = summary["baseline"], summary["fields"]
    manifest = Bundle.load(folder / "bundle").manifest
    size = manifest["bytes"]
    assert size["full_table"] == 4 * baseline["table_parameters"]
    # Kept rows, and the vector that pruned ids of a field read.
    stored = [f["rows_kept"] * f["dim"] + (f["rows_kept"] < f["rows"]) * f["dim"] for f in fields]
    assert size["rows"] == 4 * sum(stored)
    assert size["rows"] < 0.25 * size["full_table"]
    served = ("weights.safetensors", "forward.jax_export.xz", "manifest.json", "README.md")
    on_disk = sum((folder / "bundle" / name).stat().st_size for name in served)
    assert on_disk < 4 * baseline["total_parameters"]


def test_raw_rows_score_as_the_ids_of_the_prepared_data(made):
    folder, prepared = made
    rows = pyarrow.csv.read_csv(folder / "rows.csv")
    ids = prepared.encode(rows)
    # Each of them is a row of some split.
    splits = [prepared.arrays(split)[0] for split in ("train", "validation", "test")]
    known = {row.tobytes() for row in np.concatenate(splits).astype(np.int32)}
    assert len(ids) == 1000 and all(row.tobytes() in known for row in ids.astype(np.int32))
    written = pyarrow.csv.read_csv(folder / "scores.csv")["probability"].to_numpy()
    expected = Bundle.load(folder / "bundle").predict(ids)
    np.testing.assert_array_equal(written.astype(np.float32), expected)
    assert np.ptp(expected) > 0.05


def test_onnxruntime_gives_the_scores_of_real_rows(made, command):
    """Of raw rows, with values that are missing or were never seen, and of ids."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    folder, prepared = made
    names = {"bundle": folder / "bundle", "format": "onnx"}
    assert command(export.main, **names, output=folder / "raw.onnx") == 0
    assert command(export.main, "--takes_ids", **names, output=folder / "ids.onnx") == 0
    bundle = Bundle.load(folder / "bundle")
    ids = prepared.arrays("test")[0][:2048]
    session = onnxruntime.InferenceSession(folder / "ids.onnx")
    (found,) = session.run(["probability"], {"ids": ids.astype(np.int64)})
    np.testing.assert_allclose(found, bundle.predict(ids), atol=1e-5)
    session = onnxruntime.InferenceSession(folder / "raw.onnx")
    rows = pyarrow.csv.read_csv(folder / "rows.csv")
    rng, columns, feed = np.random.default_rng(0), {}, {}
    for taken in session.get_inputs():
        values = rows[taken.name].to_pylist()
        if taken.type == "tensor(string)":
            for row in rng.choice(len(values), 60, replace=False):
                values[row] = None if row % 2 else f"unseen {row}"
            feed[taken.name] = np.array(["" if v is None else str(v) for v in values], object)
        else:
            feed[taken.name] = np.array(values, np.float64)
        columns[taken.name] = values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnseenValues)
        expected = bundle.predict(columns)
    np.testing.assert_allclose(session.run(["probability"], feed)[0], expected, atol=1e-5)


def test_pytorch_gives_the_scores_of_real_rows(made, command):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: it is too large")
    folder, prepared = made
    names = {"bundle": folder / "bundle", "format": "torch", "output": folder / "torch"}
    assert command(export.main, **names) == 0
    spec = importlib.util.spec_from_file_location("written_model", folder / "torch" / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ids = prepared.arrays("test")[0][:2048]
    found = module.load(folder / "torch").predict(torch.tensor(ids.astype(np.int64))).numpy()
    expected = Bundle.load(folder / "bundle").predict(ids)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("sizes", [[], [0], [3], [4, 4], [1, 2, 0, 9, 4], [5, 1]])
def test_batches_are_the_same_rows_so_many_at_a_time(sizes):
    rows = np.arange(2 * sum(sizes)).reshape(-1, 2)
    parts = np.split(rows, np.cumsum(sizes)[:-1]) if sizes else []
    found = list(predict.whole_batches(parts, 4))
    assert all(len(batch) == 4 for batch in found[:-1])
    assert len(found) == -(-len(rows) // 4)
    np.testing.assert_array_equal(np.concatenate([rows[:0], *found]), rows)
