"""Weak scaling of the row-sharded step, read from the compiled program: nothing is allocated."""

import itertools
import json
import os
import subprocess
import sys

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
        given = {"dim": DIM, "per_device": 64, "fields": 13}
        for name, value in given.items():
            setattr(absl_flags.FLAGS, name, value)
        return [collectives.measure(rows, DEVICES, "all_gather") for rows in (V // 20, V)]


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


@pytest.fixture(scope="module")
def records_of_many(tmp_path_factory):
    """Of both exchanges on 4 and 16 devices, more than this process has."""
    file = tmp_path_factory.mktemp("collectives") / "figures.json"
    subprocess.run(
        [
            *(sys.executable, "-m", "experiments.benchmarks.collectives", f"--json={file}"),
            *(f"--dim={DIM}", "--per_device=64", "--fields=13", f"--rows={V // 20}"),
            "--devices=4,16",
        ],
        env=os.environ,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return json.loads(file.read_text())


def test_what_a_device_sends_grows_with_the_devices_unless_it_asks_for_its_rows(records_of_many):
    growth = records_of_many["growth"]
    assert {tuple(own["devices"]) for own in growth.values()} == {(4, 16)}
    assert growth[f"all_gather V={V // 20}"]["bytes"] == pytest.approx(4, rel=0.01)
    assert growth[f"all_to_all V={V // 20}"]["bytes"] < 1.01
    of = {(own["exchange"], own["devices"]): own for own in records_of_many["records"]}
    assert set(of) == set(itertools.product(("all_gather", "all_to_all"), (4, 16)))
    for own in of.values():
        # In the supernet's gathered form, drawn dimensions travel beside the ids.
        modelled = own["exchange_bytes_modelled"]
        assert modelled <= own["exchange_bytes"] <= 1.02 * modelled
    # Distinct rows of 64 examples, a quarter more, their weights and places, there and back.
    assert of["all_to_all", 16]["exchange_bytes"] == 16 * 65 * (2 * (DIM + 1) + 2) * 4
    # What all agree on is a place in each device's block.
    network = of["all_gather", 16]["sent"]["all-reduce"]
    assert of["all_to_all", 16]["sent"]["all-reduce"] - network == 2 * 16 * 4
