"""What an export trains further, end to end: better in its bits, the same each time, or left."""

import re
import types

import numpy as np
import pyarrow.csv
import pytest

from experiments import export
from experiments.run import fine_tuning
from experiments.run.bundle_budget import Chosen
from optembed_jax.bundle import Bundle
from optembed_jax.numpy_bundle import NumpyBundle
from optembed_jax.serving.stored_model import Storage
from optembed_jax.table.elements import ELEMENTS


@pytest.fixture
def exported(command, small_data, small_run, tmp_path, capsys):
    """Exports the small run; its bundle, and what was said."""

    def exported(name, **flags):
        where = {"data_dir": small_data, "workdir": small_run, "bundle": tmp_path / name}
        capsys.readouterr()
        assert command(export.main, **where, max_auc_drop=1, **flags) == 0
        return Bundle.load(tmp_path / name), capsys.readouterr()

    return exported


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def fast(monkeypatch):
    """Ten steps at a rate that suits so few."""
    monkeypatch.setattr(fine_tuning, "_SHARE_OF_LR", 10.0)


@pytest.mark.usefixtures("fast")
def test_bits_are_trained_for_and_the_same_bits_come_of_it_again(exported, tmp_path):
    rows = {"storage": "int2", "sample": tmp_path / "rows.csv"}
    left, told = exported("left", fine_tune_steps=0, **rows)
    assert "fine-tuning" not in told.err
    # 5 batches twice: at most 10 of the 256 steps that are the default.
    tuned, told = exported("tuned", storage="int2")
    assert re.search(r"fine-tuning  10 steps in 0:\d\d  validation AUC as stored", told.err)
    of = [bundle.manifest["metrics"] for bundle in (left, tuned)]
    assert of[0]["val_auc_float32"] == of[1]["val_auc_float32"]
    assert of[0]["val_auc_stored"] < of[1]["val_auc_stored"]
    assert f"{of[0]['val_auc_stored']:.6f}, after step" in told.err
    assert f"stored {of[1]['val_auc_stored']:.6f}" in told.out
    sample = pyarrow.csv.read_csv(tmp_path / "rows.csv")
    scores = tuned.predict(sample)
    assert np.abs(scores - left.predict(sample)).max() > 1e-4
    np.testing.assert_allclose(
        NumpyBundle.load(tmp_path / "tuned").predict(sample), scores, atol=1e-6
    )
    # The same arrays and the same bytes, whoever had them before.
    assert sum(map(len, files(tmp_path / "left").values())) == pytest.approx(
        sum(map(len, files(tmp_path / "tuned").values())), abs=16
    )
    exported("again", storage="int2")
    assert files(tmp_path / "again") == files(tmp_path / "tuned")


@pytest.mark.usefixtures("fast")
def test_a_model_of_all_rows_is_trained_on_those_that_were_drawn(exported, tmp_path):
    """With log r in its bias it would learn the rate of the rows, were they not told apart."""
    tuned, _ = exported("tuned", storage="int3", sample=tmp_path / "rows.csv")
    drawn, _ = exported("drawn", storage="int3", negative_rate=0.25)
    sample = pyarrow.csv.read_csv(tmp_path / "rows.csv")
    expected = tuned.logits(sample) + np.log(0.25)
    np.testing.assert_allclose(drawn.logits(sample), expected, atol=2e-3)


@pytest.mark.parametrize("storage", ["float16", "bfloat16", "float32"])
def test_what_has_no_codes_is_left(exported, storage):
    assert "fine-tuning" not in exported("plain", storage=storage)[1].err


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        (Storage(("int8", "float32")), True),
        (Storage(("float32",), "int8"), True),
        (Storage(("float16",), "float16", {"mlp/Dense_0/kernel": "int4"}), True),
        (Storage(("float16", "bfloat16"), "float16", {"mlp/Dense_0/kernel": "float16"}), False),
        (Storage((ELEMENTS,), "int8", {"mlp/Dense_0/kernel": "int8"}), False),
        (Storage(()), False),
    ],
)
def test_codes_gain_and_single_numbers_have_no_place_for_more(storage, expected):
    assert fine_tuning.may_gain(Chosen(storage, 0.8, 0.7)) is expected


def test_a_training_that_helps_nothing_leaves_the_model(exported, monkeypatch):
    left, _ = exported("left", storage="int4", fine_tune_steps=0)
    monkeypatch.setattr(fine_tuning, "fine_tuned", lambda *args, **options: None)
    tuned, told = exported("tuned", storage="int4")
    assert "no better, left as it was" in told.err
    for bundle in (left, tuned):
        assert bundle.manifest["metrics"] == left.manifest["metrics"]


def test_steps_are_no_more_than_two_passes_and_a_large_model_is_rounded_less_often(monkeypatch):
    """Of 1,000 rows in batches of 300 with the rest filled up: four batches a pass."""
    seen = {}

    def trained(*args, **options):
        *_, batches, tuning, _ = args
        seen.update(steps=tuning.steps, batches=len(list(batches)), lr=tuning.learning_rate)
        seen.update(hold=tuning.hold)

    monkeypatch.setattr(fine_tuning, "fine_tuned", trained)
    monkeypatch.setattr(fine_tuning, "_batches", lambda *args: iter(range(8)))
    run = types.SimpleNamespace(
        prepared=types.SimpleNamespace(num_rows={"train": 1000}, negative_share=1.0),
        settings=types.SimpleNamespace(
            batch_size=300, negative_rate=1.0, train=types.SimpleNamespace(lr=0.01)
        ),
        progress=types.SimpleNamespace(say=lambda text: None),
    )
    served = types.SimpleNamespace(index=None)
    chosen = Chosen(Storage(("int8",)), 0.8, 0.7)
    # Of 25 M numbers what rounding does is held for longer.
    for asked, steps, numbers, hold in ((5, 5, 9, 10), (8, 8, 10 * 2**20, 10), (256, 8, 25e6, 24)):
        params = np.broadcast_to(np.float32(0), (int(numbers),))
        model = types.SimpleNamespace(model=None, params=params, batch_stats=None, served=served)
        assert fine_tuning.trained_further(run, model, chosen, asked) == (model, chosen)
        assert seen == {"steps": steps, "batches": steps, "lr": pytest.approx(3e-4), "hold": hold}
