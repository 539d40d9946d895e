import numpy as np
import pyarrow.parquet as pq
import pytest

from optembed_jax import data
from optembed_jax.data.formats import flights
from optembed_jax.errors import InputError


@pytest.mark.parametrize("split", ["random", "time"])
def test_flights(tmp_path, check_layout, split):
    prepared = data.prepare("flights", data.DataOptions(split=split), tmp_path)
    check_layout(prepared)
    assert sum(prepared.num_rows.values()) == 327_346
    rows = np.array(list(prepared.num_rows.values()))
    rate = np.array(list(prepared.label_rate.values()))
    np.testing.assert_allclose((rows * rate).sum() / rows.sum(), 0.2447, atol=1e-4)
    np.testing.assert_allclose(rows / rows.sum(), [0.8, 0.1, 0.1], atol=0.005)
    assert 12 <= prepared.fields.num_fields <= 14


def test_fields_agree_with_the_raw_columns():
    table = pq.read_table(flights.flights_file())
    made = flights._derive(table)
    rng = np.random.default_rng(0)
    for row in rng.integers(0, table.num_rows, 50).tolist():
        raw = {name: table[name][row].as_py() for name in table.column_names}
        found = {name: made[name][row].as_py() for name in made.column_names}
        assert found["flight"] == f"{raw['carrier']}{raw['flight']}"
        day = np.datetime64(f"2013-{raw['month']:02d}-{raw['day']:02d}", "D")
        assert found["weekday"] == (day.astype(int) + 3) % 7 + 1
        assert found["arr_hour"] == raw["sched_arr_time"] // 100
        assert found["late"] == int(raw["arr_delay"] >= 15)
        if raw["temp"] is not None:
            assert found["temp"] <= raw["temp"] < found["temp"] + 5


def test_time_split_is_in_order(tmp_path):
    prepared = data.prepare("flights", data.DataOptions(split="time"), tmp_path)
    month = prepared.fields.names.index("month")
    months = {}
    for split in prepared.num_rows:
        ids = np.unique(prepared.arrays(split)[0][:, month])
        months[split] = {prepared.vocabulary.raw(int(i)).value for i in ids}
    # November and December are hardly or never seen in training.
    assert months["test"] <= {None, "11", "12"} and "1" in months["train"]


def test_a_missing_file_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(flights, "FILE", "nowhere/flights.parquet")
    monkeypatch.setattr(flights.sysconfig, "get_path", lambda name: "/nowhere")
    with pytest.raises(InputError, match=r"make_flights\.py"):
        flights.flights_file()
