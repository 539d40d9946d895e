"""Which stored rows an id reads: against the papers' formulas, and what no table can have."""

import itertools

import numpy as np
import pytest

from optembed_jax.table.composition import (
    Hashed,
    QuotientRemainder,
    composition_of,
    rows_read,
)

SIZES = (40, 7, 3)


def mixed(number):
    """SplitMix64's finaliser of a number, in Python's own integers."""
    whole = 2**64 - 1
    number = (number + 0x9E3779B97F4A7C15) & whole
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & whole
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & whole
    return number ^ (number >> 31)


@pytest.mark.parametrize(("rows", "seed"), [(1, 0), (13, 0), (13, 2**32 - 1), (2**31 - 1, 5)])
def test_a_hash_is_that_of_the_number_and_its_lowest_bit_the_sign(rows, seed):
    hashed = Hashed(SIZES, rows, seed)
    hashes = [mixed((seed << 32) + number) for number in range(50)]
    assert hashed.places.tolist() == [[(h >> 32) * rows >> 32 for h in hashes]]
    assert hashed.signs.tolist() == [-1 if h & 1 else 1 for h in hashes]
    assert hashed.places.min() >= 0 and hashed.places.max() < rows


def test_a_hash_spreads_evenly_and_seeds_differ():
    hashed, other = (Hashed((100_000,), 100, seed) for seed in (0, 1))
    reads = np.bincount(hashed.places[0], minlength=100)
    assert abs(reads - 1000).max() < 6 * np.sqrt(1000)
    assert abs(hashed.signs.mean()) < 0.02
    assert (hashed.places[0] == other.places[0]).mean() < 0.02
    # A sign tells nothing of the row.
    assert abs(np.corrcoef(hashed.places[0], hashed.signs)[0, 1]) < 0.02


def test_quotients_and_remainders_tell_all_values_of_a_field_apart():
    own = QuotientRemainder(SIZES, (7, 0, 0))
    assert own.rows_per_field == (6 + 7, 7, 3) and own.rows == 23
    quotients, remainders = own.places
    assert quotients[:40].tolist() == [value // 7 for value in range(40)]
    assert remainders[:40].tolist() == [6 + value % 7 for value in range(40)]
    assert quotients[40:].tolist() == list(range(13, 23))
    assert (remainders[40:] == 23).all()  # None: they keep a row each.
    pairs = list(zip(quotients.tolist(), remainders.tolist(), strict=True))
    assert len(set(pairs)) == 50 and own.signs is None


@pytest.mark.parametrize(
    "composition",
    [Hashed(SIZES, 13, 3), QuotientRemainder(SIZES, (7, 3, 0)), QuotientRemainder((1,), (0,))],
)
def test_what_is_described_is_made_again(composition):
    assert composition_of(list(composition.sizes), composition.described()) == composition
    ends = list(itertools.accumulate(composition.sizes))
    for field, (size, end) in enumerate(zip(composition.sizes, ends, strict=True)):
        own = {place for factor in composition.places for place in factor[end - size : end]}
        assert rows_read(composition)[field] == len(own - {composition.rows})


@pytest.mark.parametrize(
    "described",
    [
        {"by": "luck"},
        {"by": "hash", "rows": 0, "seed": 0},
        {"by": "hash", "rows": 1.0, "seed": 0},
        {"by": "hash", "rows": 5, "seed": -1},
        {"by": "hash", "rows": 5, "seed": 2**32},
        {"by": "quotient_remainder", "remainders": [7, 3]},
        {"by": "quotient_remainder", "remainders": [7, 3, 4]},
        {"by": "quotient_remainder", "remainders": [7, -1, 0]},
    ],
)
def test_what_no_table_has_is_refused(described):
    with pytest.raises(ValueError, match=r"luck|rows|seed|remainders"):
        composition_of(SIZES, described)
