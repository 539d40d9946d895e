import math

import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.targets.sparse_core import Limits, limits_of


def test_without_counts_limits_hold_for_the_worst_batch():
    # All 1,000 samples of a SparseCore have one id of a table of three rows, one for each core.
    assert limits_of(3, 4000, 4) == Limits(1000, 8)
    assert limits_of(10**6, 4000, 4) == Limits(1000, 1000)
    assert limits_of(1, 8, 8) == Limits(8, 8)


def test_with_counts_limits_hold_for_drawn_batches_and_are_far_smaller():
    rng, rows, cores, batch = np.random.default_rng(0), 5000, 8, 8 * 4096
    counts = np.floor(1e6 / np.arange(1, rows + 1))
    found = limits_of(rows, batch, cores, counts)
    largest = unique = 0
    for _ in range(20):
        ids = rng.choice(rows, batch, p=counts / counts.sum()).reshape(cores, -1)
        for samples in ids:
            of_core = [samples[samples % cores == core] for core in range(cores)]
            largest = max(largest, *(len(part) for part in of_core))
            unique = max(unique, *(len(np.unique(part)) for part in of_core))
    assert largest <= found.max_ids_per_partition < 0.6 * 4096
    assert largest > 256  # the libraries' default
    assert unique <= found.max_unique_ids_per_partition <= 5000 / 8 + 8


def test_the_limit_is_a_quantile_of_the_binomial_distribution():
    # Two rows on two cores, one read by a tenth: of 100 samples at most so many of the other.
    found = limits_of(2, 200, 2, np.array([1, 9])).max_ids_per_partition
    tail = sum(math.comb(100, k) * 0.9**k * 0.1 ** (100 - k) for k in range(found + 1, 101))
    assert found <= 104 and tail < 1e-12
    assert limits_of(2, 200, 2, np.zeros(2)).max_ids_per_partition == 104


def test_a_stack_has_the_sum():
    assert Limits(8, 16) + Limits(24, 8) == Limits(32, 24)


def test_refuses_batches_and_counts_that_do_not_fit():
    with pytest.raises(InputError, match="batch_size=10 cannot be dealt in equal parts to 4"):
        limits_of(5, 10, 4)
    with pytest.raises(InputError, match=r"counts have shape \(3,\), expected one for each of 5"):
        limits_of(5, 8, 4, np.zeros(3))
