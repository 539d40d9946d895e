import datetime

import numpy as np
import pytest

from optembed_jax import data
from optembed_jax.errors import InputError

PLAIN = [
    *("C1", "banner_pos", "site_id", "site_domain", "site_category", "app_id", "app_domain"),
    *("app_category", "device_id", "device_ip", "device_model", "device_type", "device_conn_type"),
    *(f"C{i}" for i in range(14, 22)),
]
HEADER = ["id", "click", "hour", *PLAIN]


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    hours = np.sort(rng.integers(0, 240, 600))
    start = datetime.datetime(2014, 10, 21)
    return [
        [
            10**19 + i,  # beyond 64 bits, and dropped
            int(rng.random() < 0.3),
            (start + datetime.timedelta(hours=int(hour))).strftime("%y%m%d%H"),
            *[f"{v:x}" for v in rng.zipf(1.5, len(PLAIN))],
        ]
        for i, hour in enumerate(hours)
    ]


def prepare(tmp_path, **options):
    options = data.DataOptions(**{"raw_dir": str(tmp_path), "min_count": 1, **options})
    return data.prepare("avazu", options, tmp_path / "out")


def as_fields(rows):
    """The values of each of the 24 fields, as text."""
    for row in rows:
        moment = datetime.datetime.strptime(row[2], "%y%m%d%H")
        day = moment.isoweekday()
        parts = (f"{moment.hour:02d}", str(day), str(int(day > 5)))
        yield (*parts, *(None if v is None else str(v) for v in row[3:]))


@pytest.mark.parametrize("min_count", [1, 2])
def test_fields_and_round_trip(tmp_path, write_table, rows, awkward, check_round_trip, min_count):
    rows = awkward(rows, 3)
    write_table([HEADER, *rows], "train.csv", end="\r\n")
    prepared = prepare(tmp_path, min_count=min_count)
    assert prepared.fields.num_fields == 24
    assert prepared.fields.names == ("hour", "weekday", "is_weekend", *PLAIN)
    columns = list(zip(*as_fields(rows), strict=True))
    labels = [row[1] for row in rows]
    check_round_trip(prepared, columns, ["categorical"] * 24, labels, min_count)


def test_split_index_files(tmp_path, write_table, rows, decode):
    """Row numbers count from 0 after the header, over all parts."""
    write_table([HEADER, *rows[:350]], "train_0.csv")
    write_table([HEADER, *rows[350:]], "train_1.csv")
    index = np.random.default_rng(0).permutation(len(rows))
    (tmp_path / "x4").mkdir()
    chosen = dict(zip(("test", "validation", "train"), np.split(index, [60, 120]), strict=True))
    for name, part in chosen.items():
        (tmp_path / f"x4/{name}.txt").write_text("\n".join(map(str, part)) + "\n")
    prepared = prepare(tmp_path, vocab_from="all", split_index=str(tmp_path / "x4"))
    fields = list(as_fields(rows))
    for split, part in chosen.items():
        found = decode(prepared, prepared.arrays(split)[0])
        assert sorted(found) == sorted(fields[row] for row in part)


def test_a_split_index_of_more_rows_than_there_are(tmp_path, write_table, rows):
    write_table([HEADER, *rows[:500]], "train.csv")
    (tmp_path / "x4").mkdir()
    for name, part in zip(
        ("train", "valid", "test"), ((0, 400), (400, 450), (450, 600)), strict=True
    ):
        np.save(tmp_path / f"x4/{name}.npy", np.arange(*part))
    message = r"test\.npy names row 500 \(from 0\), but the raw files have 500 rows"
    with pytest.raises(InputError, match=message):
        prepare(tmp_path, split_index=str(tmp_path / "x4"))
    assert not list(tmp_path.glob("out/avazu/*/*"))


def test_split_by_time(tmp_path, write_table, rows):
    write_table([HEADER, *rows], "train.csv")
    prepared = prepare(tmp_path, split="time")
    hours = [row[2] for row in rows]
    # 600 rows over 240 hours: the boundary moves to the next hour.
    boundary = prepared.num_rows["train"]
    assert 480 <= boundary <= 490 and hours[boundary - 1] != hours[boundary]
    assert prepared.label_rate["train"] == np.mean([row[1] for row in rows[:boundary]])


def test_parts_with_and_without_the_header(tmp_path, write_table, rows):
    write_table([HEADER, *rows[:300]], "train_0.csv")
    write_table(rows[300:400], "train_1.csv")
    write_table([HEADER, *rows[400:]], "train_2.csv")
    assert sum(prepare(tmp_path).num_rows.values()) == len(rows)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (2, "14133100", "column 'hour' is '14133100', expected an hour as YYMMDDHH"),
        (1, "", "column 'click' is empty, expected 0 or 1"),
    ],
)
def test_bad_cells(tmp_path, write_table, rows, position, value, message):
    rows[41][position] = value
    write_table([HEADER, *rows], "train.csv")
    with pytest.raises(InputError, match=r"train\.csv line 43") as caught:
        prepare(tmp_path)
    assert message in str(caught.value)


def test_a_missing_header_is_named(tmp_path, write_table, rows):
    write_table(rows, "train.csv")
    with pytest.raises(InputError, match=r"line 1: the header should name .* 'id' is missing"):
        prepare(tmp_path)
