import numpy as np
import pytest

from experiments.benchmarks.peers import handover
from optembed_jax import data
from optembed_jax.data.options import DataOptions
from optembed_jax.errors import InputError


def test_the_arrays_are_the_prepared_rows_with_ids_from_0_in_each_field(tmp_path):
    options = DataOptions(synthetic_rows=500, synthetic_field_size=9)
    prepared = data.prepare("synthetic", options, tmp_path / "prepared")
    handover.write_arrays(prepared, tmp_path / "arrays")
    fields = prepared.fields
    for split in handover.SPLITS:
        ids = np.load(tmp_path / "arrays" / f"{split}_ids.npy", allow_pickle=False)
        labels = np.load(tmp_path / "arrays" / f"{split}_labels.npy", allow_pickle=False)
        assert ids.dtype == np.int32 and labels.dtype == np.float32
        assert (ids >= 0).all() and (ids < np.array(fields.sizes)).all()
        expected, expected_labels = prepared.arrays(split)
        starts = np.concatenate([[0], np.cumsum(fields.sizes)[:-1]])
        np.testing.assert_array_equal(ids + starts, expected)
        np.testing.assert_array_equal(labels, expected_labels)


def test_movielens_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        handover.hand_over("movielens", tmp_path / "d", str(tmp_path / "nowhere"), tmp_path / "a")
