import importlib.util
import os

import numpy as np
import pytest
from bundles import cases, make_bundle, prepared_table

from optembed_jax.errors import InputError
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.targets.probes import probe_ids

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed; the extra [torch] is too large for every test run"
)

from optembed_jax.targets import torch_folder  # noqa: E402


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepared_table(tmp_path_factory.mktemp("table"))


def written_module(folder):
    spec = importlib.util.spec_from_file_location("written_model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("backbone", "shape", "storage"), cases())
def test_gives_the_bundles_scores(prepared, tmp_path, backbone, shape, storage):
    bundle = make_bundle(tmp_path / "b", prepared, backbone, shape, storage)
    ids = probe_ids(bundle.fields, 300)
    expected = NumpyBundle.load(tmp_path / "b").predict(ids)
    torch_folder.write(bundle, tmp_path / "t", takes_ids=False)
    found = written_module(tmp_path / "t").load(tmp_path / "t").predict(torch.tensor(ids))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert sorted(os.listdir(tmp_path)) == ["b", "t"]


@pytest.fixture(scope="module")
def folder(prepared, tmp_path_factory):
    place = tmp_path_factory.mktemp("b")
    bundle = make_bundle(place / "b", prepared, "deepfm", "full ids", "mixed")
    torch_folder.write(bundle, place / "t", takes_ids=False)
    return bundle, place / "t"


def test_what_is_written_can_be_exported_as_a_program_of_any_batch_size(folder):
    bundle, place = folder
    model = written_module(place).load(place)
    ids = torch.tensor(probe_ids(bundle.fields, 33).astype(np.int64))
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (ids,), dynamic_shapes=({0: batch},))
    for count in (2, 33):
        found = program.module()(ids[:count])
        np.testing.assert_allclose(found, bundle.logits(ids[:count].numpy()), atol=1e-5)


def test_ids_of_other_fields_are_refused(folder):
    bundle, place = folder
    model = written_module(place).load(place)
    good = torch.tensor(probe_ids(bundle.fields, 3).astype(np.int64))
    for column, id_ in ((0, -1), (1, 0), (2, int(good.max()))):
        ids = good.clone()
        ids[2, column] = id_
        name = bundle.fields.names[column]
        with pytest.raises(ValueError, match=f"row 2: id {id_} is not one of field '{name}'"):
            model.predict(ids)
    with pytest.raises(ValueError, match="expected int64"):
        model.predict(good.float())
    with pytest.raises(ValueError, match="have shape"):
        model.predict(good[:, :2])


def test_there_is_no_pickle_and_a_licence_in_it(folder):
    _, place = folder
    files = sorted(os.listdir(place))
    assert files == ["README.md", "fbgemm.safetensors", "model.json", "model.py"] + [
        "weights.safetensors"
    ]
    assert "Licensed under the Apache License, Version 2.0" in (place / "model.py").read_text()
    assert "optembed_jax" not in (place / "model.py").read_text()


def test_fbgemm_reads_the_rows_of_the_bundle(folder):
    pytest.importorskip("fbgemm_gpu", reason="fbgemm-gpu is not installed")
    bundle, place = folder
    tables = written_module(place).fbgemm_tables(place)
    assert bundle.manifest["model"]["pooling"] == "mean" and tables.pooling_mode.name == "SUM"
    ids = probe_ids(bundle.fields, 50)
    local = (ids - bundle.fields.offsets).T[[0, 1, 2, 4]]
    offsets = torch.arange(local.size + 1, dtype=torch.int32)
    found = tables(torch.tensor(local.reshape(-1).astype(np.int32)), offsets).numpy()
    begin = 0
    # Each field has an array of its own, since no two are of one width and kind.
    for array, (field, dim, padded) in enumerate(((0, 3, 4), (1, 2, 8), (2, 4, 4), (4, 1, 4))):
        rows = np.asarray(bundle.weights[f"rows/{array}"]).astype(np.float32)
        scale = bundle.weights.get(f"scale/{array}")
        if scale is not None:
            rows = rows * np.asarray(scale).astype(np.float32)[:, None]
        at = np.asarray(bundle.weights[f"remap/{field}"])[local[array]]
        np.testing.assert_array_equal(found[:, begin : begin + dim], rows[at])
        np.testing.assert_array_equal(found[:, begin + dim : begin + padded], 0)
        begin += padded


def test_a_folder_of_something_else_stays(folder, tmp_path):
    bundle, _ = folder
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"exists and has no model.json"):
        torch_folder.write(bundle, tmp_path / "mine", takes_ids=False)
    assert os.listdir(tmp_path / "mine") == ["letter.txt"]
    # Others write a model.json too, and what is beside a folder's own files is somebody's.
    (tmp_path / "mine" / "model.json").write_text("{}")
    with pytest.raises(InputError, match=r"exists and has no model.py"):
        torch_folder.write(bundle, tmp_path / "mine", takes_ids=False)
    torch_folder.write(bundle, tmp_path / "own", takes_ids=False)
    torch_folder.write(bundle, tmp_path / "own", takes_ids=False)
    (tmp_path / "own" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"such as 'letter.txt', which would be lost"):
        torch_folder.write(bundle, tmp_path / "own", takes_ids=False)
    assert len(os.listdir(tmp_path / "own")) == 6
