import os

import numpy as np
import pytest
from bundles import cases, make_bundle, prepared_table

from optembed_jax.errors import InputError
from optembed_jax.serving.numpy_bundle import NumpyBundle

onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")

from optembed_jax.targets import onnx_file, probes  # noqa: E402


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepared_table(tmp_path_factory.mktemp("table"))


def run(path, feed):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["probability"], feed)[0]


@pytest.mark.parametrize(("backbone", "shape", "storage"), cases())
def test_gives_the_bundles_scores(prepared, tmp_path, backbone, shape, storage):
    bundle = make_bundle(tmp_path / "b", prepared, backbone, shape, storage)
    ids = probes.probe_ids(bundle.fields, 300)
    expected = NumpyBundle.load(tmp_path / "b").predict(ids)
    onnx_file.write(bundle, tmp_path / "ids.onnx", takes_ids=True)
    found = run(tmp_path / "ids.onnx", {"ids": ids.astype(np.int64)})
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected) > 0.02 or shape == "no columns"
    onnx_file.write(bundle, tmp_path / "raw.onnx", takes_ids=False)
    raw = {
        "user": ["u1", "u7", "", "nobody"],
        "zip": ["3", "3.0", "NULL", "29"],
        "flag": ["1", "true", "0", ""],
        "day": ["2024-03-02", "2024-03-02 00:00:00", "2024-03-07T00:00:00", "1999-01-01"],
        "age": [40.0, np.nan, -1e9, 1e9],
    }
    expected = bundle.logits(bundle.encoder.encode(raw))
    feed = {name: np.array(values, object) for name, values in raw.items()}
    feed["age"] = np.array(raw["age"])
    found = run(tmp_path / "raw.onnx", feed)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-expected)), atol=1e-5)
    assert sorted(os.listdir(tmp_path)) == ["b", "ids.onnx", "raw.onnx"]


@pytest.mark.parametrize("backbone", ["dcn", "dcnv2", "autoint", "dlrm"])
def test_cross_layers_alone_over_no_columns(prepared, tmp_path, backbone):
    bundle = make_bundle(tmp_path / "b", prepared, backbone, "no columns", mlp_dims=())
    ids = probes.probe_ids(bundle.fields, 3)
    onnx_file.write(bundle, tmp_path / "ids.onnx", takes_ids=True)
    found = run(tmp_path / "ids.onnx", {"ids": ids.astype(np.int64)})
    np.testing.assert_allclose(found, bundle.predict(ids), atol=1e-5)


@pytest.fixture(scope="module")
def bundle(prepared, tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("b") / "b", prepared, "fm", "own ids", "int8")


def test_an_id_of_another_field_is_refused_by_the_runtime(bundle, tmp_path):
    onnx_file.write(bundle, tmp_path / "m.onnx", takes_ids=True)
    good = probes.probe_ids(bundle.fields, 4).astype(np.int64)
    for column, id_ in ((0, -1), (1, 0), (1, int(good.max()))):
        ids = good.copy()
        ids[2, column] = id_
        with pytest.raises(Exception, match="out of data bounds"):
            run(tmp_path / "m.onnx", {"ids": ids})


def test_any_number_of_rows(bundle, tmp_path):
    onnx_file.write(bundle, tmp_path / "m.onnx", takes_ids=True)
    ids = probes.probe_ids(bundle.fields, 9).astype(np.int64)
    for count in (0, 1, 9):
        assert run(tmp_path / "m.onnx", {"ids": ids[:count]}).shape == (count,)


def test_operators_of_the_standard_and_rows_in_the_bits_of_the_bundle(bundle, tmp_path):
    onnx_file.write(bundle, tmp_path / "m.onnx", takes_ids=False)
    model = onnx.load(tmp_path / "m.onnx")
    assert {node.domain for node in model.graph.node} == {"", "ai.onnx.ml"}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17), ("ai.onnx.ml", 3)]
    eight = [c for c in model.graph.initializer if c.data_type == onnx.TensorProto.INT8]
    rows = sum(f["rows"] * f["dim"] for f in bundle.manifest["fields"])
    linear = sum(f["rows"] for f in bundle.manifest["fields"])
    assert sum(np.prod(c.dims) for c in eight) == rows + linear
    again = onnx_file.model_of(bundle, takes_ids=False)
    assert again.SerializeToString(deterministic=True) == (tmp_path / "m.onnx").read_bytes()


def test_a_file_that_gives_other_logits_is_not_written(bundle, tmp_path, monkeypatch):
    (tmp_path / "m.onnx").write_text("what was there")
    monkeypatch.setattr(
        onnx_file, "Forward", lambda graph, content, tensors: Doubled(graph, content, tensors)
    )
    with pytest.raises(InputError, match=r"onnxruntime gives .* nothing was written"):
        onnx_file.write(bundle, tmp_path / "m.onnx", takes_ids=True)
    assert os.listdir(tmp_path) == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_text() == "what was there"


class Doubled(onnx_file.Forward):
    def logits(self, ids, weights=None):
        return self.graph.op("Add", *[super().logits(ids, weights)] * 2)


def test_a_folder_that_cannot_be_made(bundle, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        onnx_file.write(bundle, tmp_path / "file" / "m.onnx", takes_ids=True)


def test_a_step_without_operators_is_told_with_the_way_out(bundle, monkeypatch):
    description = bundle.encoder.description
    monkeypatch.setitem(description.fields[0], "step", ["pyarrow"])
    with pytest.raises(InputError, match=r"'user' is made by the step 'pyarrow'.*--takes_ids"):
        onnx_file.model_of(bundle, takes_ids=False)
