import numpy as np
import pytest

from optembed_jax.serving import bundle_samples
from optembed_jax.serving.bundle_format import BundleError


def test_samples_are_of_their_fields_and_always_the_same():
    fields = [{"ids": 5}, {"ids": 1}, {"ids": 1000}]
    ids = bundle_samples.draw_samples(fields)
    assert ids.shape == (bundle_samples.SAMPLES, 3) and ids.dtype == np.int32
    assert (ids >= [0, 5, 6]).all() and (ids < [5, 6, 1006]).all()
    np.testing.assert_array_equal(ids, bundle_samples.draw_samples(fields))


def test_samples_are_scored_within_a_tolerance(tmp_path):
    manifest = {"samples": {"ids": [[0], [1]], "logits": [0.5, -200.0]}}

    def check(*logits):
        bundle_samples.check_samples(tmp_path, manifest, lambda ids: np.array(logits), 1e-2)

    check(0.509, -201.9)
    with pytest.raises(BundleError, match=r"gives 0\.52 for its sample 0, 0\.5 when"):
        check(0.52, -200)
    with pytest.raises(BundleError, match="gives nan for its sample 1, -200 when"):
        check(0.5, np.nan)


def test_the_most_different_row():
    zeros = np.zeros(3)
    assert bundle_samples.most_different(zeros, zeros, 0.0) is None
    assert bundle_samples.most_different(np.array([1e-3, 2e-3, 0]), zeros, 1e-3) == 1
    assert bundle_samples.most_different(np.array([9, 0, np.nan]), zeros, 1e-3) == 2
    assert bundle_samples.most_different(zeros[:0], zeros[:0], 1e-3) is None
