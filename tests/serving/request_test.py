import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.serving.request import check_weights, probabilities


def test_probabilities_are_the_sigmoid_and_overflow_nowhere():
    logits = np.array([-1000, -2.5, 0, 0.3, 1000], np.float32)
    expected = [0, 1 / (1 + np.exp(2.5)), 0.5, 1 / (1 + np.exp(-0.3)), 1]
    np.testing.assert_allclose(probabilities(logits), expected, rtol=1e-6)
    assert probabilities(logits[:0]).shape == (0,)


def test_weights_behind_ids_are_finite_and_not_negative():
    def check(*weights, is_value=(True, True, True)):
        bits = np.array([weights], np.float32).view(np.int32)
        ids = np.concatenate([np.zeros((1, 3), np.int32), bits], axis=1)
        # Slots 1 and 2, both of the second field, have weights.
        slots, of_slot = np.array([1, 2]), np.array([0, 1, 1])
        check_weights(ids, np.array([is_value]), slots, ("a", "b"), of_slot)

    check(0, 1e12)
    check(-1, 2, is_value=(True, False, True))  # of what is no value nothing is asked
    for bad in (-1e-3, np.nan, np.inf, 2e12):
        with pytest.raises(InputError, match="row 0: a value of field 'b' has the weight"):
            check(1, bad)
