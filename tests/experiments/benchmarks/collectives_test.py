"""Weak scaling of the row-sharded step, read from the compiled program: nothing is allocated."""

import itertools

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments.benchmarks import collectives

DEVICES, DIM, V = 4, 32, 4_000_000


@pytest.fixture(scope="module")
def records():
    """Of a table of 200,000 rows, and of one twenty times as large."""
    with flagsaver.flagsaver():
        absl_flags.FLAGS.mark_as_parsed()
        given = {"devices": DEVICES, "dim": DIM, "per_device": 64, "fields": 13}
        for name, value in given.items():
            setattr(absl_flags.FLAGS, name, value)
        return [collectives.measure(rows) for rows in (V // 20, V)]


def test_what_a_device_sends_does_not_grow_with_the_table(records):
    small, large = records
    assert small["sent"] == large["sent"]
    assert set(small["sent"]) == {"all-gather", "reduce-scatter", "all-reduce"}
    # The rows of the whole batch go out once by each of the two kinds, and ids beside them.
    rows_of_batch = DEVICES * 64 * 13 * DIM * 4
    assert rows_of_batch <= small["sent"]["reduce-scatter"] < 1.1 * rows_of_batch
    assert rows_of_batch <= small["sent"]["all-gather"] < 1.1 * rows_of_batch


def test_a_device_holds_its_share_of_the_rows_and_the_network(records):
    large = records[-1]
    # Table, two moments of each of its numbers; the linear weights have theirs; float32.
    rows = 3 * V * (DIM + 1) * 4
    widths = (13 * DIM, 1024, 512, 256, 1)
    network = 3 * 4 * sum(a * b for a, b in itertools.pairwise(widths))
    share = rows / DEVICES + network
    assert large["state_bytes"] == pytest.approx(share, rel=0.15)
    assert large["state_bytes"] == pytest.approx(large["quarter"], rel=0.001)
    # What the step needs for itself is within it too: the state is updated where it stands.
    assert large["in_place_bytes"] == large["state_bytes"]
    assert large["state_bytes"] + large["temporary_bytes"] == pytest.approx(share, rel=0.15)
