import dataclasses

import pytest

from experiments.run.bundle_budget import choose
from optembed_jax.errors import InputError
from optembed_jax.serving.stored_model import Storage

CANDIDATES = [Storage(("int8",) * number) for number in range(10)]
ALLOWED = 0.0045


def number(storage):
    return len(storage.rows)


def chosen(max_bytes=None, max_drop=ALLOWED, candidates=CANDIDATES):
    return choose(
        candidates,
        auc_of=lambda storage: 0.8 - 0.001 * number(storage),
        bytes_of=lambda storage: 1000 - 100 * number(storage),
        before=0.8,
        max_bytes=max_bytes,
        max_drop=max_drop,
    )


def test_without_a_limit_of_bytes_it_is_the_smallest_that_costs_no_more():
    found = chosen()
    assert number(found.storage) == 4
    assert (found.before, found.after) == (0.8, pytest.approx(0.796))


@pytest.mark.parametrize(("limit", "expected"), [(1000, 0), (999, 1), (700, 3), (10**9, 0)])
def test_with_one_it_is_the_best_that_fits(limit, expected):
    assert number(chosen(limit).storage) == expected


def test_refuses_what_fits_at_no_price_or_at_too_high_a_one():
    with pytest.raises(InputError, match=r"=99 cannot be kept: .* takes 100 bytes"):
        chosen(99)
    with pytest.raises(InputError, match=r"=500 costs 0.005000 .* than --max_auc_drop=0.0045"):
        chosen(500).check(ALLOWED)
    with pytest.raises(InputError, match=r"the storage costs 0.005000"):
        chosen(candidates=CANDIDATES[5:]).check(ALLOWED)
    # What has been trained for it since may do.
    dataclasses.replace(chosen(500), after=0.7956).check(ALLOWED)


def test_a_small_model_whose_bytes_rise_as_bits_fall_keeps_the_bits_that_fit():
    """Scales and what reads them: 15,000 bytes in the finest, 18,000 in the fewest bits."""

    def found(max_bytes):
        return choose(
            CANDIDATES,
            auc_of=lambda storage: 0.8,
            bytes_of=lambda storage: 15000 + 333 * number(storage),
            before=0.8,
            max_bytes=max_bytes,
            max_drop=ALLOWED,
        )

    assert number(found(15500).storage) == 0
    with pytest.raises(InputError, match=r"takes 15,000 bytes"):
        found(14999)


def test_the_least_of_all_storages_is_told_and_taken():
    """Widths that are stored in two ways take more to read than they save: no end is the least."""
    sizes = [13_900, 13_884, 13_880, 13_795, 13_890, 13_904]

    def found(max_bytes):
        return choose(
            CANDIDATES[:6],
            auc_of=lambda storage: 0.8,
            bytes_of=lambda storage: sizes[number(storage)],
            before=0.8,
            max_bytes=max_bytes,
            max_drop=ALLOWED,
        )

    with pytest.raises(InputError, match=r"takes 13,795 bytes"):
        found(13_794)
    for limit in (13_795, 13_880, 13_899):
        assert sizes[number(found(limit).storage)] <= limit


def test_where_bytes_fall_by_far_not_all_storages_are_counted():
    """A table of millions of rows takes seconds to store."""
    counted = []

    def bytes_of(storage):
        counted.append(number(storage))
        return 10**6 - 50_000 * number(storage)

    with pytest.raises(InputError, match=r"takes 550,000 bytes"):
        choose(CANDIDATES, lambda storage: 0.8, bytes_of, 0.8, 500_000, ALLOWED)
    assert len(counted) == len(set(counted)) < 7
