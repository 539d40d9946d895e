import numpy as np
import pytest

from optembed_jax import data
from optembed_jax.errors import InputError


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return [
        [int(rng.choice([0, 0, 0, 1, 3])), *(int(v) for v in rng.zipf(1.6, 11))] for _ in range(300)
    ]


def prepare(tmp_path, **options):
    options = data.DataOptions(**{"raw_dir": str(tmp_path), "min_count": 1, **options})
    return data.prepare("kdd12", options, tmp_path / "out")


@pytest.mark.parametrize("min_count", [1, 2])
def test_round_trip(tmp_path, write_table, rows, awkward, check_round_trip, min_count):
    rows = awkward(rows, 4)
    write_table(rows, "training.txt", "\t", "\r\n")
    prepared = prepare(tmp_path, min_count=min_count)
    assert prepared.fields.num_fields == 11
    clicks, *columns = zip(*rows, strict=True)
    columns = [[None if v is None else str(v) for v in column] for column in columns]
    # A row with several clicks is one example with label 1.
    labels = [count > 0 for count in clicks]
    check_round_trip(prepared, columns, ["categorical"] * 11, labels, min_count)


@pytest.mark.parametrize("click", ["-1", "x", "", "1.5"])
def test_clicks_must_be_numbers(tmp_path, write_table, rows, click):
    rows[9][0] = click
    write_table(rows, "training.txt", "\t")
    with pytest.raises(InputError, match=r"line 10: .*expected a number of clicks"):
        prepare(tmp_path)


def test_no_time_to_split_by(tmp_path, write_table, rows):
    write_table(rows, "training.txt", "\t")
    with pytest.raises(InputError, match="no time column"):
        prepare(tmp_path, split="time")
