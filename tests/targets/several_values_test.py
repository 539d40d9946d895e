"""Bundles of fields whose cells hold several values, in other runtimes: from ids."""

import numpy as np
import pytest
from bundles import make_cells, prepared_cells

from optembed_jax.errors import InputError
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.targets.probes import probe_ids
from optembed_jax.targets.registry import TARGETS

CASES = [
    ("deepfm", "float32", "mean", "keep"),
    ("fm", "int8", "sum", "prune"),
    ("ipnn", "int4_field", "mean", "prune"),
    ("dcnv2", "bfloat16", "sum", "prune"),
    ("autoint", "int8", "mean", "prune"),
    ("dlrm", "float16", "sum", "prune"),
    ("finalmlp", "int6", "mean", "prune"),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepared_cells(tmp_path_factory.mktemp("cells"))


def runtime(name):
    library = {"onnx": "onnxruntime", "torch": "torch"}[name]
    return pytest.importorskip(library, reason=f"{library} is not installed")


def scores(name, library, written, ids):
    if name == "onnx":
        session = library.InferenceSession(written, providers=["CPUExecutionProvider"])
        return session.run(["probability"], {"ids": ids})[0]
    from optembed_jax.targets.torch_folder import imported

    return imported(written / "model.py").load(written).predict(library.tensor(ids)).numpy()


def test_probes_have_cells_of_every_length(prepared, tmp_path):
    bundle = make_cells(tmp_path / "b", prepared, *CASES[0])
    fields = bundle.fields
    assert fields.slots[0] == 1 and min(fields.slots[1:]) > 1
    ids = probe_ids(fields, 100)
    filled = (ids[:, 1 : 1 + fields.slots[1]] < fields.num_features).sum(axis=1)
    assert set(filled) == set(range(fields.slots[1] + 1)) and filled[2] == 0


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case))
def test_gives_the_bundles_scores(prepared, tmp_path, name, case):
    library = runtime(name)
    bundle = make_cells(tmp_path / "b", prepared, *case)
    TARGETS[name].write(bundle, tmp_path / name, takes_ids=True)
    ids = probe_ids(bundle.fields, 200).astype(np.int64)
    expected = NumpyBundle.load(tmp_path / "b").predict(ids)
    found = scores(name, library, tmp_path / name, ids)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    wrong = ids.copy()
    wrong[3, 0] = bundle.fields.num_features  # a field of one value has one
    with pytest.raises(Exception, match=r"out of data bounds|row 3: id .* is not one of field"):
        scores(name, library, tmp_path / name, wrong)


def test_onnx_has_no_input_for_texts_of_several_values(prepared, tmp_path):
    runtime("onnx")
    bundle = make_cells(tmp_path / "b", prepared, *CASES[1])
    with pytest.raises(InputError, match=r"cells of field 'tags' hold several.*--takes_ids"):
        TARGETS["onnx"].write(bundle, tmp_path / "m.onnx", takes_ids=False)
