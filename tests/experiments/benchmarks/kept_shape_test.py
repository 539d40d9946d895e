import numpy as np

from experiments.benchmarks.click_log import fields_of
from experiments.benchmarks.kept_shape import drawn_kept


def test_shares_are_kept_and_stand_ins_where_they_are_read():
    fields = fields_of(5000)
    mask, dims = drawn_kept(fields, 0.3, 0.41, np.random.default_rng(0), 64)
    assert 0.27 < mask.mean() < 0.33 and not mask[fields.oov_ids].all()
    assert dims.sum() == round(0.41 * 64 * fields.num_fields) and 1 <= dims.min() < dims.max() <= 64
    again, same = drawn_kept(fields, 0.3, 0.41, np.random.default_rng(0), 64, stand_ins=True)
    assert again[fields.oov_ids].all() and (dims == same).all()
    others = np.setdiff1d(np.arange(5000), fields.oov_ids)
    np.testing.assert_array_equal(again[others], mask[others])


def test_all_or_nothing():
    fields = fields_of(5000)
    mask, dims = drawn_kept(fields, 1.0, 1.0, np.random.default_rng(0), 8)
    assert mask.all() and (dims == 8).all()
    mask, _ = drawn_kept(fields, 0.0, 0.5, np.random.default_rng(0), 8, stand_ins=True)
    assert mask.sum() == fields.num_fields
