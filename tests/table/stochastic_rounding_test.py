import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.method.embedding import Table
from optembed_jax.table.stochastic_rounding import (
    LOOKED_UP,
    STEPPED,
    in_dtype,
    kept_as,
    rounded,
    widened,
)

DRAWS = 4096


def read(bits):
    """float32 of bits of bfloat16."""
    return np.asarray(widened(Table(bits)).rows)


def towards_zero(numbers):
    """The bfloat16 beside each number that is nearer to 0, as float32."""
    return (np.asarray(numbers, np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


def away_from_zero(numbers):
    """The next one after that."""
    return (towards_zero(numbers).view(np.uint32) + 0x10000).view(np.float32)


def test_a_number_becomes_one_of_its_neighbours_and_on_average_itself():
    numbers = np.float32([1.001, -1.001, 3.14159, 1e-3 / 3, -7e5, 1e30 / 7, 1.00390625 - 1e-7])
    keys = jax.random.split(jax.random.key(0), DRAWS)
    drawn = jax.vmap(lambda key: rounded(jnp.asarray(numbers), key))(keys)
    drawn, low, high = read(drawn), np.float64(towards_zero(numbers)), away_from_zero(numbers)
    assert np.all((drawn == low) | (drawn == high))
    share = (numbers - low) / (high - low)
    error = np.sqrt(share * (1 - share) / DRAWS) + 1e-3 / DRAWS
    went_up = np.mean(drawn == high, axis=0)
    assert np.all(np.abs(went_up - share) < 5 * error) and 0 < went_up[0] < 0.5


def test_what_bfloat16_has_stays_and_what_is_no_number_too():
    """Zeros, a power of two, the smallest normal number, the largest one, infinities, NaN."""
    exact = np.float32([0.0, -0.0, 1.0, -1.0078125, 2.0**-126, 3.3895314e38, np.inf, -np.inf])
    for seed in range(20):
        drawn = read(rounded(jnp.asarray(exact), jax.random.key(seed)))
        np.testing.assert_array_equal(drawn.view(np.uint32), exact.view(np.uint32))
    assert np.isnan(read(rounded(jnp.float32([np.nan]), jax.random.key(0)))).all()
    assert rounded(jnp.zeros((0, 4)), jax.random.key(0)).shape == (0, 4)


def test_steps_below_half_of_the_last_bit_add_up():
    """A thousand of a twentieth of it each; to the nearest, none would ever be taken."""

    def step(row, number):
        stepped = widened(Table(row)).rows + 2.0**-8 / 20
        return rounded(stepped, jax.random.key(number)), None

    start = in_dtype(Table(jnp.ones((1, 64))), "bfloat16").rows
    row, _ = jax.lax.scan(step, start, jnp.arange(1000))
    assert abs(np.mean(read(row)) - (1 + 1000 * 2.0**-8 / 20)) < 0.01
    assert jnp.bfloat16(1) + jnp.bfloat16(2.0**-8 / 20) == 1


def test_a_stack_is_kept_in_a_dtype_and_read_in_float32():
    table = Table(jnp.full((3, 2), 1.003), jnp.full((3,), 1.003), jnp.full((1, 2), 1.003))
    kept = in_dtype(table, "bfloat16")
    assert kept.rows.dtype == jnp.uint16 and kept.linear is table.linear
    assert kept.oov is table.oov and in_dtype(table, "float32") is table
    wide = widened(kept)
    assert wide.rows.dtype == jnp.float32 and np.all(np.asarray(wide.rows) == 1.0)
    numbers = Table(jnp.ones(3))
    assert in_dtype(numbers, "bfloat16") is numbers and widened(numbers) is numbers
    assert kept_as(table, wide, jnp.int32(0), STEPPED) is wide


@pytest.mark.parametrize("other", [(1, STEPPED, 0), (0, LOOKED_UP, 0), (0, STEPPED, 2048)])
def test_draws_go_by_step_and_place(other):
    table = in_dtype(Table(jnp.zeros((64, 8))), "bfloat16")
    after = Table(jnp.full((64, 8), 1.003))
    first, again, apart = (
        read(kept_as(table, after, *where).rows)
        for where in itertools.chain([(0, STEPPED, 0)] * 2, [other])
    )
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first)) == 2 and (first != apart).any()
