"""The notebook runs from top to bottom, as a person would run it, on small settings."""

import contextlib
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from optembed_jax.search.budget import table_parameters

NOTEBOOK = pathlib.Path(__file__).parents[3] / "experiments/colab/quickstart.ipynb"
SMALL = {
    "BATCH_SIZE": 8_192,
    "EPOCHS": 1,
    "LATENT_DIM": 4,
    "MLP_DIMS": (8,),
    "VALIDATION_ROWS": 1_024,
    "GENERATIONS": 1,
}


@pytest.fixture(scope="module")
def notebook():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def test_it_is_stored_without_outputs(notebook):
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = notebook["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_its_cells_run_in_order(notebook, tmp_path, capsys):
    names = {}
    changed = SMALL | {"DATA_DIR": str(tmp_path)}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
        if cell["id"] == "settings":
            assert set(changed) <= set(names)  # or what is changed here is no setting any more
            names.update(changed)
    names["plt"].close("all")

    # What a reader is told on the way is so.
    told = capsys.readouterr().out
    assert "V = 9,151 rows" in told and "test AUC: full table" in told
    assert 0.5 < names["full_auc"] < 1 and 0.5 < names["small_auc"] < 1
    assert set(names["own_auc"]) == {"Attention", "Perceptron"}
    assert all(0.5 < auc < 1 for auc in names["own_auc"].values())
    assert 0.5 < names["own_loop_auc"] < 1
    assert names["importance"].max() > 0
    climbed, winner = names["climbed"].population, names["winner"]
    assert climbed.fitness[0] >= names["fitness"](winner[None])[0]
    assert names["space"].parameters(climbed.winner) <= names["limit"]
    assert 0 < names["kept"] < 1 and np.abs(names["gradient_of_thresholds"]).max() > 0
    assert np.abs(names["gradient_of_rows"]).max() > 0
    assert table_parameters(names["rows_kept"], names["winner"]) <= names["limit"]
    assert names["a"].shape == (1_024,)
    np.testing.assert_allclose(names["a"], names["b"], atol=1e-5)


@pytest.mark.parametrize(
    ("programs", "platforms", "backend", "message"),
    [
        ({"nvidia-smi"}, None, "cpu", "has a GPU, and JAX does not see it: %pip install 'jax"),
        ({"nvidia-smi"}, None, "gpu", None),
        ({"nvidia-smi"}, "cpu", "cpu", None),
        (set(), None, "cpu", None),
    ],
    ids=["lost", "there", "not-wanted", "none"],
)
def test_a_runtime_that_lost_its_accelerator_is_told(
    notebook, monkeypatch, programs, platforms, backend, message
):
    (cell,) = (cell for cell in notebook["cells"] if cell["id"] == "accelerator")
    monkeypatch.setattr(shutil, "which", lambda name: name if name in programs else None)
    monkeypatch.setattr(pathlib.Path, "glob", lambda path, pattern: iter(()))
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", platforms)
    try:
        told = (
            contextlib.nullcontext()
            if message is None
            else pytest.raises(RuntimeError, match=message)
        )
        with told:
            exec(compile("".join(cell["source"]), cell["id"], "exec"), {})
    finally:
        jax.config.update("jax_platforms", before)
