import datetime
import functools
import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optembed_jax import data
from optembed_jax.data.formats import table
from optembed_jax.errors import InputError


@pytest.fixture
def columns():
    rng = np.random.default_rng(0)
    n = 2_000
    return {
        "clicked": rng.integers(0, 2, n).tolist(),
        "city": [None if rng.random() < 0.1 else f"c{v}" for v in rng.zipf(1.6, n)],
        "shop": [None if rng.random() < 0.1 else int(v) for v in rng.zipf(2.0, n)],
        "price": [None if rng.random() < 0.2 else round(float(v), 3) for v in rng.normal(0, 9, n)],
        "day": [
            str(datetime.date(2024, 1, 1) + datetime.timedelta(days=i // 10)) for i in range(n)
        ],
    }


CHOICE = {"label": "clicked", "categorical": ("city", "shop"), "numeric": ("price",)}


@pytest.fixture
def prepare(tmp_path):
    def run(file=None, **options):
        options = data.DataOptions(
            table_file=None if file is None else str(file), **(CHOICE | options)
        )
        return data.prepare("table", options, tmp_path / "out")

    return run


def as_rows(columns):
    return [list(columns), *zip(*columns.values(), strict=True)]


def test_text_and_parquet_give_the_same_data(tmp_path, write_table, columns, prepare, check_layout):
    prepared = [
        prepare(write_table(as_rows(columns), "a.csv")),
        prepare(write_table(as_rows(columns), "a.tsv", "\t", "\r\n")),
        prepare(write_table(as_rows(columns), "a.txt", ";")),
    ]
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=300)
    prepared.append(prepare(tmp_path / "a.parquet"))
    for one in prepared:
        check_layout(one)
    assert len({one.fingerprint for one in prepared}) == 1
    assert prepared[0].fields.names == ("city", "shop", "price")


def test_numeric_bins_are_the_training_quantiles(tmp_path, write_table, columns, prepare):
    rows = as_rows(columns)
    parts = {"train_file": rows[:1601], "validation_file": rows[:1] + rows[1601:1801]}
    parts["test_file"] = rows[:1] + rows[1801:]
    files = {name: str(write_table(part, f"{name}.csv")) for name, part in parts.items()}
    prepared = prepare(numeric_bins=10, **files)
    assert prepared.num_rows == {"train": 1600, "validation": 200, "test": 200}
    training = np.array([v for v in columns["price"][:1600] if v is not None])
    field = prepared.vocabulary.fields[2]
    np.testing.assert_allclose(
        field.edges, np.quantile(training, np.arange(1, 10) / 10, method="inverted_cdf"), atol=0.2
    )
    price = prepared.fields.offsets[2]
    counts = prepared.counts[price:]
    assert counts[0] == 0  # nothing is out of vocabulary
    np.testing.assert_allclose(counts[1:11], len(training) / 10, atol=2)
    assert counts[11] == 1600 - len(training)
    # The bin of each new number, by comparison with every edge.
    new = [-1e9, float(field.edges[0]), 0.0, 1e9, None]
    ids = prepared.encode({"city": ["x"] * 5, "shop": [1] * 5, "price": new})[:, 2] - price
    assert ids.tolist() == [1, 2, 1 + int((field.edges <= 0.0).sum()), 10, 11]
    assert prepared.vocabulary.raw(int(price) + 11).kind == "missing"


@pytest.mark.parametrize("width", [10, 39, 3])
def test_tables_of_any_width_with_unseen_and_missing_values(tmp_path, write_table, prepare, width):
    rng = np.random.default_rng(width)
    names = [f"f{i}" for i in range(width)]
    rows = []
    for i in range(600):
        cells = [None if rng.random() < 0.1 else f"v{v}" for v in rng.zipf(1.5, width)]
        if i >= 540:
            cells[0] = "only in the test part"
        rows.append([int(rng.random() < 0.5), i, *cells, None if i % 7 == 0 else i / 3])
    path = write_table([["y", "t", *names, "x"], *rows])
    prepared = prepare(
        path, label="y", categorical=names, numeric=("x",), split="time", time_column="t"
    )
    assert prepared.num_rows == {"train": 480, "validation": 60, "test": 60}
    ids, _ = prepared.arrays("test")
    assert (ids[:, 0] == prepared.fields.oov_ids[0]).all()


def test_rows_are_grouped_by_a_column(tmp_path, write_table, columns, prepare):
    none = [None, "NULL", "nan"]
    columns = columns | {
        "row": [f"r{n}" for n in range(2_000)],
        "user": [f"u{n % 70}" if n % 9 else none[n // 9 % 3] for n in range(2_000)],
    }
    path = write_table(as_rows(columns))
    choice = {"categorical": ("row",), "min_count": 1, "vocab_from": "all"}
    plain, found = prepare(path, **choice), prepare(path, group="user", **choice)
    assert plain.fingerprint != found.fingerprint
    assert found.fields.names == plain.fields.names  # the group is no field
    users = {}
    for split in ("train", "validation", "test"):
        ids, labels = found.arrays(split)
        for one, other in zip((ids, labels), plain.arrays(split), strict=True):
            np.testing.assert_array_equal(one, other)
        for row, group in zip(ids[:, 0].tolist(), found.groups(split).tolist(), strict=True):
            user = columns["user"][int(found.vocabulary.raw(row).value[1:])]
            assert users.setdefault(user, group) == group
    assert {users.pop(word) for word in none if word in users} == {0}
    assert len(users) == 70 == len({0, *users.values()}) - 1
    with pytest.raises(InputError, match="prepared without group"):
        plain.groups("test")
    with pytest.raises(InputError, match="no column 'nobody'"):
        prepare(path, group="nobody")
    by_field = data.prepare("flights", data.DataOptions(group="carrier"), tmp_path / "flights")
    assert len(np.unique(by_field.groups("validation"))) <= 16
    with pytest.raises(InputError, match="group: there is no column 'nobody'; there are "):
        data.prepare("flights", data.DataOptions(group="nobody"), tmp_path / "flights")


def test_split_by_date(tmp_path, write_table, columns, prepare):
    prepared = prepare(write_table(as_rows(columns)), split="time", time_column="day")
    assert prepared.num_rows == {"train": 1600, "validation": 200, "test": 200}
    assert prepared.label_rate["test"] == np.mean(columns["clicked"][1800:])


@pytest.mark.parametrize("first", [0, 45_000])
def test_split_by_fractions_of_a_number(write_table, columns, prepare, first):
    columns["day"] = [f"{first + i / 2000:.4f}" for i in range(2000)]
    prepared = prepare(write_table(as_rows(columns)), split="time", time_column="day")
    assert prepared.num_rows == {"train": 1600, "validation": 200, "test": 200}
    assert prepared.label_rate["test"] == np.mean(columns["clicked"][1800:])


@pytest.mark.parametrize("block_bytes", [2**10, 2**24])
def test_times_in_two_forms_are_refused_by_their_rows(
    tmp_path, write_table, columns, prepare, monkeypatch, block_bytes
):
    columns["day"][1990] = "20240205"
    path = write_table(as_rows(columns))
    blocks = functools.partial(table.source_of_parts, block_bytes=block_bytes)
    monkeypatch.setattr(table, "source_of_parts", blocks)
    first = columns["day"][0]
    message = (
        "column 'day' has times in two forms, which cannot be put in order: "
        f"{path} line 2 has '{first}', a date; {path} line 1992 has '20240205', a number; write"
    )
    with pytest.raises(InputError, match=message):
        prepare(path, split="time", time_column="day")
    # Nor in two part files; and where it does not split, any text may stand in the column.
    parts = tmp_path / "parts"
    parts.mkdir()
    days = {"a.csv": columns["day"][:1000], "b.csv": list(range(1000))}
    for name, own in days.items():
        part = {key: values[:1000] for key, values in columns.items()} | {"day": own}
        write_table(as_rows(part)).rename(parts / name)
    with pytest.raises(InputError, match=r"a\.csv line 2 has '2024.*b\.csv line 2 has '0', a"):
        prepare(parts, split="time", time_column="day")
    assert prepare(parts, time_column="day").num_rows["train"] == 1600


@pytest.mark.parametrize("time", ["0x10", "1_000", "soon", "nan", "9" * 30])
def test_times_that_are_none_are_told_by_row(write_table, columns, prepare, time):
    columns["day"] = [str(i) for i in range(2000)]
    columns["day"][7] = time
    path = write_table(as_rows(columns))
    message = f"line 9: column 'day' is '{time}', expected a number or an ISO 8601 date"
    with pytest.raises(InputError, match=message):
        prepare(path, split="time", time_column="day")
    found = prepare(path, split="time", time_column="day", max_bad_rows=1)
    assert sum(found.num_rows.values()) == 1999


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": None}, "needs label"),
        ({"label": "click"}, "has no column 'click'; its header has clicked, city"),
        ({"categorical": ("town",)}, "has no column 'town'"),
        ({"categorical": (), "numeric": ()}, "at least one column"),
        ({"numeric": ("city",)}, "column 'city' is named twice"),
        ({"categorical": ("clicked",)}, "cannot be a field as well"),
        ({"categorical": (), "numeric": ("city",)}, "line .*column 'city' is 'c1'.*a number"),
        ({"label": "shop", "categorical": ("city",)}, "column 'shop' is .*, expected 0 or 1"),
        ({"split": "time"}, "needs time_column"),
        ({"split": "time", "time_column": "city"}, "column 'city' is .*a number or an ISO 8601"),
        ({"train_file": "x.csv"}, "either table_file or train"),
        ({"raw_dir": "."}, "raw_dir is set, but data set 'table' does not use it"),
    ],
)
def test_bad_options_are_named(tmp_path, write_table, columns, prepare, options, message):
    path = write_table(as_rows(columns))
    with pytest.raises(InputError, match=message):
        prepare(path, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("label", [0, 1])
def test_a_split_with_one_class_is_refused(write_table, columns, prepare, label):
    columns["clicked"] = [label if i % 10 else 1 - label for i in range(2_000)]
    columns["clicked"][1600:1800] = [label] * 200
    rows = as_rows(columns)
    parts = {"train_file": rows[:1601], "validation_file": rows[:1] + rows[1601:1801]}
    parts["test_file"] = rows[:1] + rows[1801:]
    files = {name: str(write_table(part, f"{name}.csv")) for name, part in parts.items()}
    with pytest.raises(
        InputError,
        match=rf"all 200 rows of the validation split .*validation_file\.csv.* label {label}: "
        "its AUC is undefined",
    ):
        prepare(**files)


@pytest.mark.parametrize("count", [1, 5])
def test_a_table_of_too_few_rows_is_named(write_table, prepare, count):
    rows = [["y", "city"], *([i % 2, "c"] for i in range(count))]
    path = write_table(rows)
    message = rf"split \({path}\) has no rows, all splits together {count}; give more rows"
    with pytest.raises(InputError, match=message):
        prepare(path, label="y", categorical=("city",), numeric=(), data_seed=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"clicked,city,shop,price\n", "holds no rows"),
        (b"clicked,city,shop,city,price\n1,2,3,4,5\n", "more than one column 'city'"),
        (b"\xff,city\n", "not UTF-8"),
        (b"PAR1 but not really", "cannot be read as Parquet"),
    ],
)
def test_unusable_files(tmp_path, prepare, content, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        prepare(path)


def test_columns_are_found_by_name_in_each_file(tmp_path, write_table, columns, prepare):
    rows = as_rows(columns)
    files = {n: str(write_table(rows, f"{n}.csv")) for n in ("train_file", "test_file")}
    same = prepare(validation_file=str(write_table(rows, "v.csv")), **files)
    other = [row[::-1] for row in rows]
    more = [["fold", *rows[0]], *([7, *row] for row in rows[1:])]
    for changed in (other, more):
        found = prepare(validation_file=str(write_table(changed, "w.tsv", "\t")), **files)
        (tmp_path / "w.tsv").unlink()
        assert found.fingerprint == same.fingerprint
        (tmp_path / "out").rename(tmp_path / f"out{len(changed[0])}{changed[0][0]}")
    pq.write_table(pa.table(columns), tmp_path / "v.parquet")
    found = prepare(validation_file=str(tmp_path / "v.parquet"), **files)
    assert found.fingerprint == same.fingerprint
    without = [
        [cell for cell, name in zip(row, rows[0], strict=True) if name != "shop"] for row in rows
    ]
    with pytest.raises(InputError, match=r"v2\.csv has no column 'shop'"):
        prepare(validation_file=str(write_table(without, "v2.csv")), **files)


def test_a_folder_of_parts_is_the_table_that_they_make(tmp_path, write_table, columns, prepare):
    rows = as_rows(columns)
    whole = prepare(write_table(rows, "whole.csv"))
    parts = tmp_path / "parts"
    parts.mkdir()
    for number in range(3):
        part = [rows[0], *rows[1 + number * 701 : 1 + (number + 1) * 701]]
        write_table([row[::-1] for row in part] if number == 1 else part, f"parts/{number}.csv")
    (parts / "_SUCCESS").touch()
    pq.write_table(pa.table(columns).slice(0, 0), parts / "3.parquet")
    write_table(rows[:1], "parts/4.csv")
    (parts / "5.csv").touch()
    (parts / "6.csv.gz").write_bytes(gzip.compress(b""))
    named = ",".join(str(parts / f"{number}.csv") for number in range(3))
    for path in (parts, parts / "*", named):
        made = prepare(path)
        assert made.fingerprint == whole.fingerprint
        assert prepare(path).path == made.path  # empty parts are no new ones


def test_what_parts_there_are_now_is_looked_at(tmp_path, write_table, columns, prepare):
    rows = as_rows(columns)
    for name, part in (("a", rows), ("b", [rows[0], *rows[:0:-1]])):
        (tmp_path / name).mkdir()
        write_table(part, f"{name}/0.csv")
    first = prepare(tmp_path / "a" / "*.csv")
    other = data.DataOptions(table_file=str(tmp_path / "b" / "*.csv"), **CHOICE)
    found = data.prepare("table", other, tmp_path / "out", fingerprint=first.fingerprint)
    assert found.path != first.path  # the pattern leads to other files, which are there
    gone = data.DataOptions(table_file=str(tmp_path / "c" / "*.csv"), **CHOICE)
    found = data.prepare("table", gone, tmp_path / "out", fingerprint=first.fingerprint)
    assert found.path == first.path
    prepare(tmp_path / "a")
    (tmp_path / "a" / "day=1").mkdir()
    write_table(rows, "a/day=1/0.csv")
    with pytest.raises(InputError, match="name different columns"):
        prepare(tmp_path / "a")


def test_parts_without_any_row_are_told(tmp_path, prepare):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("click,user,price\n")
    with pytest.raises(InputError, match=r"a\.csv and the other files beside it hold no rows"):
        prepare(tmp_path / "*.csv", label="click", categorical=("user",))


def test_folders_names_are_columns(tmp_path, write_table, columns, prepare):
    (tmp_path / "days").mkdir()
    days = ["2024-03-01", "2024-03-02", "2024-03-03", "2024-03-04"]
    for number, day in enumerate(days):
        (tmp_path / f"days/day={day}").mkdir()
        rows = pa.table(columns).drop_columns("day").slice(number * 500, 500)
        pq.write_table(rows, tmp_path / f"days/day={day}/0.parquet")
    found = prepare(tmp_path / "days", categorical=("city", "day"))
    assert found.vocabulary.fields[1].values.to_pylist() == days
    assert prepare(tmp_path / "days").num_rows["train"] == 1600
    by_time = prepare(tmp_path / "days", categorical=("city",), split="time", time_column="day")
    assert sum(by_time.num_rows.values()) == 2000
    pq.write_table(pa.table(columns), tmp_path / "days/day=2024-03-02/1.parquet")
    with pytest.raises(InputError, match=r"has a column 'day', and its folder's name gives day="):
        prepare(tmp_path / "days", categorical=("city", "day"))


def test_files_that_lack_something_are_refused(tmp_path, write_table, columns, prepare):
    rows = as_rows(columns)
    files = {n: str(write_table(rows, f"{n}.csv")) for n in ("train_file", "test_file")}
    with pytest.raises(InputError, match=r"needs table_file, or all of"):
        prepare(**files)
    with pytest.raises(InputError, match=r"does not exist; correct validation_file"):
        prepare(validation_file="nowhere.csv", **files)
    twice = pa.Table.from_arrays(
        [pa.array(columns[name]) for name in ("clicked", "city", "city", "shop", "price")],
        ["clicked", "city", "city", "shop", "price"],
    )
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(InputError, match=r"has more than one column 'city'"):
        prepare(tmp_path / "twice.parquet")
    assert prepare(tmp_path / "twice.parquet", categorical=("shop",)).fields.names == (
        "shop",
        "price",
    )


def test_parquet_of_other_types(tmp_path, columns, prepare):
    table = pa.table(
        {
            "clicked": pa.array([bool(v) for v in columns["clicked"]]),
            "city": pa.array(columns["city"]).dictionary_encode(),
            "shop": pa.array(columns["shop"], pa.float64()),
            "price": pa.array(columns["price"], pa.float32()),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    prepared = prepare(tmp_path / "t.parquet")
    # Whole numbers read the same whether their column holds integers or floats.
    assert "1" in prepared.vocabulary.fields[1].values.to_pylist()
    nested = table.append_column("list", pa.array([[1]] * table.num_rows))
    pq.write_table(nested, tmp_path / "n.parquet")
    with pytest.raises(InputError, match="column 'list' holds list"):
        prepare(tmp_path / "n.parquet", categorical=("list",))


def weighed(columns, seed=5):
    """The columns with one more, of weights that their own rows tell: the row's number, or 0."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(1, 1 + len(columns["clicked"]))
    return columns | {"w": np.where(rng.random(len(numbers)) < 0.1, 0, numbers / 4).tolist()}


@pytest.mark.parametrize("split", ["random", "time"])
def test_weights_stay_with_their_rows_and_rows_of_none_are_left_out(
    tmp_path, write_table, columns, prepare, split
):
    columns = weighed(columns | {"id": [f"i{n}" for n in range(1, 2001)]})
    how = {
        "categorical": ("id", "city"),
        "min_count": 1,
        "vocab_from": "all",
        "split": split,
        "time_column": "day",
    }
    table = write_table(as_rows(columns), "a.csv")
    prepared = prepare(table, weight="w", group="city", **how)
    absent = {k: [v for v, w in zip(c, columns["w"], strict=True) if w] for k, c in columns.items()}
    without = prepare(write_table(as_rows(absent), "b.csv"), group="city", **how)
    assert prepared.weightless == 2_000 - sum(without.num_rows.values()) > 100
    assert prepared.left_out() == [f"{prepared.weightless:,} rows of weight 0 left out"]
    assert prepared.fields == without.fields, "the weight is no field"
    if split == "time":
        assert prepared.num_rows == without.num_rows
    clicks = weight = 0
    for part in prepared.num_rows:
        ids, labels = prepared.arrays(part)
        weights = prepared.weights_of(part)
        names = [prepared.vocabulary.raw(row).value for row in ids[:, 0]]
        np.testing.assert_array_equal(weights, [int(name[1:]) / 4 for name in names])
        assert np.average(labels, weights=weights) == pytest.approx(prepared.label_rate[part])
        assert len(prepared.groups(part)) == len(ids)
        sums = prepared.weights[part]
        ones = weights[labels == 1].astype(np.float64)
        assert sums.sum[1] == pytest.approx(ones.sum()) and prepared.clicks(part) == round(
            ones.sum() ** 2 / (ones**2).sum()
        )
        clicks, weight = clicks + ones.sum(), weight + weights.sum(dtype=np.float64)
    assert weight == pytest.approx(sum(columns["w"]))
    train, _ = prepared.arrays("train")
    expected = np.zeros(prepared.fields.num_features)
    np.add.at(expected, train, prepared.weights_of("train")[:, None].astype(np.float64))
    np.testing.assert_allclose(prepared.weight_of_values, expected)


def test_batches_carry_their_rows_weights(write_table, columns, prepare):
    columns = weighed(columns | {"id": [f"i{n}" for n in range(1, 2001)]})
    prepared = prepare(
        write_table(as_rows(columns)), weight="w", categorical=("id",), numeric=(), min_count=1
    )
    reader = data.Reader(prepared, "train", 300, seed=1, remainder="pad")
    assert reader.is_weighted
    seen = 0
    for batch in reader.epoch(3):
        real = batch.weights > 0
        names = [prepared.vocabulary.raw(row).value for row in batch.ids[real, 0]]
        np.testing.assert_array_equal(batch.weights[real], [int(name[1:]) / 4 for name in names])
        seen += real.sum()
    assert seen == prepared.num_rows["train"] == reader.num_rows


@pytest.mark.parametrize("weight", ["-1", "nan", "inf", "", "heavy", "1e-30", "1e13", "NULL"])
def test_weights_that_are_none_are_refused_by_row_and_column(write_table, columns, prepare, weight):
    columns = weighed(columns)
    columns["w"][7] = weight
    table = write_table(as_rows(columns))
    with pytest.raises(InputError, match=r"table.csv line 9: column 'w' is .*expected a weight"):
        prepare(table, weight="w")
    assert prepare(table, weight="w", max_bad_rows=1).rejected == 1


def test_a_table_of_no_weight_is_refused(write_table, columns, prepare):
    table = write_table(as_rows(columns | {"w": [0] * 2_000}))
    with pytest.raises(InputError, match="2000 rows are left out, whose weight in 'w' is 0"):
        prepare(table, weight="w")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": "clicked"}, "cannot be the label as well"),
        ({"weight": "city"}, "cannot be a field as well"),
        ({"weight": "day", "group": "day"}, "cannot be the group as well"),
        ({"weight": "day", "time_column": "day"}, "cannot be the time as well"),
        ({"group": "clicked"}, "the label 'clicked' cannot be the group"),
        ({"weight": "wieght"}, "no column 'wieght'"),
    ],
)
def test_a_column_is_not_the_weight_and_something_else(
    write_table, columns, prepare, options, message
):
    with pytest.raises(InputError, match=message):
        prepare(write_table(as_rows(columns)), **options)


@pytest.mark.parametrize("split", ["random", "time", "files"])
@pytest.mark.parametrize("weight", [None, "w"])
def test_negatives_are_drawn_of_the_training_rows(
    tmp_path, write_table, columns, prepare, check_layout, split, weight
):
    columns = columns | {
        "id": [f"i{n}" for n in range(2_000)],
        "w": [1 + n % 3 for n in range(2_000)],
    }
    how = {"categorical": ("id", "shop"), "min_count": 1, "vocab_from": "all", "weight": weight}
    if split == "files":
        rows = as_rows(columns)
        for name, part in (
            ("train", rows[1:1601]),
            ("validation", rows[1601:1801]),
            ("test", rows[1801:]),
        ):
            how[f"{name}_file"] = str(write_table([rows[0], *part], f"{name}.csv"))
        file = None
    else:
        file, how = write_table(as_rows(columns)), how | {"split": split, "time_column": "day"}
    whole, drawn = prepare(file, **how), prepare(file, draw_negatives=0.3, **how)
    assert whole.negative_share == 1
    if weight is None:
        check_layout(drawn)

    def rows_of(prepared, part):
        ids, labels = prepared.arrays(part)
        weights = prepared.weights_of(part)
        weights = np.ones(len(ids)) if weights is None else weights
        names = [prepared.vocabulary.raw(row).value for row in ids[:, 0]]
        return dict(zip(names, zip(labels, weights, strict=True), strict=True))

    for part in ("validation", "test"):
        ids = [{k for k in rows_of(one, part)} - {None} for one in (whole, drawn)]
        assert ids[1] <= ids[0] and drawn.num_rows[part] == whole.num_rows[part]
    before, after = (rows_of(one, "train") for one in (whole, drawn))
    assert after.items() <= before.items()
    assert {k for k, row in before.items() if row[0]} <= after.keys(), "all clicks"
    kept, every = (sum(w for label, w in rows.values() if not label) for rows in (after, before))
    assert 0.2 < kept / every < 0.4
    assert drawn.negative_share == pytest.approx(kept / every)
    assert prepare(file, draw_negatives=0.3, **how).fingerprint == drawn.fingerprint


def test_a_draw_of_no_negatives_is_told(write_table, columns, prepare):
    with pytest.raises(InputError, match="draw_negatives left none of the others"):
        prepare(write_table(as_rows(columns)), draw_negatives=1e-9)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_of_negatives_is_above_0_and_at_most_1(share):
    with pytest.raises(InputError, match=r"draw_negatives must be in \(0, 1\]"):
        data.DataOptions(draw_negatives=share)


def test_labels_of_other_values(tmp_path, write_table, columns, prepare):
    plain = prepare(write_table(as_rows(columns)))
    stars = [5 if one else 1 + n % 3 for n, one in enumerate(columns["clicked"])]
    others = {
        "plus": (["1" if one else "-1" for one in columns["clicked"]], "label_positive", "1"),
        "words": (["yes" if one else "no" for one in columns["clicked"]], "label_positive", "yes"),
        "truths": ([bool(one) for one in columns["clicked"]], "label_positive", "True"),
        "stars": (stars, "label_from", "clicked >= 4"),
        "rest": (stars, "label_from", "clicked!=1.0"),
    }
    for name, (values, option, text) in others.items():
        table = write_table(as_rows(columns | {"clicked": values}), f"{name}.csv")
        label = None if option == "label_from" else "clicked"
        found = prepare(table, label=label, **{option: text})
        for split in plain.num_rows:
            (ids, labels), (same, expected) = found.arrays(split), plain.arrays(split)
            np.testing.assert_array_equal(ids, same)
            if name != "rest":
                np.testing.assert_array_equal(labels, expected)
        assert found.fingerprint != plain.fingerprint
    assert found.label_rate["train"] > plain.label_rate["train"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_from": "clicked>=1"}, "either label .* or label_from"),
        ({"label": None, "label_from": "city>=1"}, "'city' cannot be a field as well"),
        ({"label": None, "label_from": "clicked"}, "label_from must be a column"),
        ({"label": None, "label_from": "day>=1"}, r"'day' is '2024.*a number to compare with 1"),
        ({"label": None, "label_positive": "1"}, "needs label"),
        ({"label_positive": "maybe"}, "no row has label_positive=maybe in column 'clicked'"),
        ({"label": "day"}, r"expected 0 or 1 \(label_positive says"),
    ],
)
def test_bad_ways_of_giving_labels(write_table, columns, prepare, options, message):
    with pytest.raises(InputError, match=message):
        prepare(write_table(as_rows(columns)), **options)


def test_blanks_around_cells_are_no_part_of_them(tmp_path, write_table, columns, prepare):
    """In training and in every way of prediction, and nothing but blanks is a missing cell."""
    plain = prepare(write_table(as_rows(columns)))

    def padded(value, n):
        text = "" if value is None else str(value)
        return ("", " ", "\t", "  ")[n % 4] + text + (" ", "", " \t")[n % 3]

    wide = {
        name: [padded(value, n + place) for n, value in enumerate(values)]
        for place, (name, values) in enumerate(columns.items())
    }
    found = prepare(write_table(as_rows(wide), "wide.csv"))
    assert found.fields == plain.fields
    for split in plain.num_rows:
        for one, other in zip(found.arrays(split), plain.arrays(split), strict=True):
            np.testing.assert_array_equal(one, other)
    names = ("city", "shop", "price")
    for prepared in (plain, found):
        for rows in (1, 50, 2_000):
            ids = prepared.encode({name: wide[name][:rows] for name in names})
            expected = prepared.encode({name: columns[name][:rows] for name in names})
            np.testing.assert_array_equal(ids, expected)
        table = pa.table({name: wide[name] for name in names})
        np.testing.assert_array_equal(prepared.encode(table), ids)
    pq.write_table(pa.table(wide), tmp_path / "wide.parquet")
    same = prepare(tmp_path / "wide.parquet")
    np.testing.assert_array_equal(same.arrays("train")[0], plain.arrays("train")[0])


@pytest.mark.parametrize(
    "missing", ["", "\\N", "NULL", "null", "NaN", "<NA>", "#N/A", " ", "Null", " NULL "]
)
def test_missing_cells_are_missing_in_columns_of_either_kind(
    write_table, columns, prepare, missing
):
    plain = prepare(write_table(as_rows(columns)))
    written = {
        name: [missing if value is None else value for value in values]
        for name, values in columns.items()
    }
    found = prepare(write_table(as_rows(written), "b.csv"))
    for split in plain.num_rows:
        np.testing.assert_array_equal(found.arrays(split)[0], plain.arrays(split)[0])
    rows = {"city": [missing], "shop": [missing], "price": [missing]}
    np.testing.assert_array_equal(found.encode(rows), plain.encode({name: [None] for name in rows}))


def test_libffm_from_file_to_ids(tmp_path, columns, prepare, write_table):
    plain = prepare(write_table(as_rows(columns)), numeric=("price",))
    lines = []
    for clicked, city, shop, price in zip(
        *(columns[name] for name in ("clicked", "city", "shop", "price")), strict=True
    ):
        words = ["1" if clicked else "-1"]
        words += [] if city is None else [f"0:{city}:1"]
        words += [] if shop is None else [f"1:{shop}:1"]
        words += [] if price is None else [f"2:0:{price}"]
        lines.append(" ".join([*words, "9:0:1"]))
    path = tmp_path / "train.ffm"
    path.write_text("\n".join(lines) + "\n")
    found = prepare(
        path, label="label", label_positive="1", categorical=("0", "1"), numeric=("2:value",)
    )
    assert found.fields.sizes == plain.fields.sizes
    for split in plain.num_rows:
        for one, other in zip(found.arrays(split), plain.arrays(split), strict=True):
            np.testing.assert_array_equal(one, other)


def test_files_are_read_as_the_options_say(tmp_path, columns, prepare, write_table):
    plain = prepare(write_table(as_rows(columns)))
    rows = [
        [
            "" if v is None else str(v).replace(".", ",") if n == 3 else str(v)
            for n, v in enumerate(row)
        ]
        for row in as_rows(columns)[1:]
    ]
    path = write_table(rows, "rows.txt", "|")
    how = {"columns": tuple(columns), "decimal": ",", "delimiter": "|"}
    found = prepare(path, **how)
    for split in plain.num_rows:
        for one, other in zip(found.arrays(split), plain.arrays(split), strict=True):
            np.testing.assert_array_equal(one, other)
    rows[4][3] = "1.000"
    with pytest.raises(
        InputError, match=r"rows.txt line 5: column 'price' is '1.000', which has a"
    ):
        prepare(write_table(rows, "rows.txt", "|"), **how)
    with pytest.raises(InputError, match="no column 'price'; columns names"):
        prepare(path, columns=("clicked", "city", "shop", "cost", "day"))


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint64(), pa.float16(), pa.float64(), pa.decimal128(21, 2), pa.string()]
)
def test_weights_of_any_type_of_number_in_parquet(tmp_path, columns, prepare, kind):
    weights = [n % 5 for n in range(2_000)]
    array = pa.array(list(map(str, weights)) if kind == pa.string() else weights)
    table = pa.table(columns | {"w": array.cast(kind)})
    pq.write_table(table, tmp_path / "a.parquet")
    found = prepare(tmp_path / "a.parquet", weight="w")
    assert found.weightless == 400
    sums = [sum(found.weights[split].sum) for split in found.num_rows]
    assert sum(sums) == sum(weights)
    for split, total in zip(found.num_rows, sums, strict=True):
        assert found.weights_of(split).sum() == total


@pytest.mark.parametrize("values", [[True] * 2_000, [None, *[1.0] * 1_999]])
def test_truths_and_missing_cells_of_parquet_are_no_weights(tmp_path, columns, prepare, values):
    pq.write_table(pa.table(columns | {"w": values}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a.parquet line 1: column 'w' is .*expected a weight"):
        prepare(tmp_path / "a.parquet", weight="w")


def test_cells_of_several_values_in_every_form_with_weights_and_drawn_negatives(
    tmp_path, columns, prepare, write_table
):
    """Lists of JSON, fields of libffm that a line repeats, texts with a separator: one reading."""
    rng = np.random.default_rng(3)
    tags = [
        [f"t{v}" for v in rng.choice(9, rng.integers(0, 4), replace=False)] for _ in range(2000)
    ]
    rows = {"clicked": columns["clicked"], "w": [n % 4 for n in range(2000)]}
    how = {
        "categorical": (),
        "numeric": (),
        "multi": ("tags",),
        "weight": "w",
        "draw_negatives": 0.5,
        "min_count": 1,
    }
    text = write_table(as_rows(rows | {"tags": [" | ".join(own) for own in tags]}))
    found = [prepare(text, separator="|", **how)]
    lines = [
        json.dumps({name: values[n] for name, values in rows.items()} | {"tags": tags[n]})
        for n in range(2000)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    found.append(prepare(tmp_path / "a.jsonl", **how))
    lines = [
        " ".join(
            [str(rows["clicked"][n]), *(f"3:{tag}:1" for tag in tags[n]), f"5:0:{rows['w'][n]}"]
        )
        for n in range(2000)
    ]
    (tmp_path / "a.ffm").write_text("\n".join(lines) + "\n")
    ffm = how | {"multi": ("3",), "weight": "5:value", "label": "label"}
    found.append(prepare(tmp_path / "a.ffm", **ffm))
    assert found[0].fields.num_slots == 3 and found[0].weightless == 500
    for one in found[1:]:
        assert one.fields.sizes == found[0].fields.sizes
        for split in one.num_rows:
            for a, b in zip(one.arrays(split), found[0].arrays(split), strict=True):
                np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(one.weights_of(split), found[0].weights_of(split))
        np.testing.assert_allclose(one.weight_of_values, found[0].weight_of_values)
        assert one.negative_share == found[0].negative_share


def test_a_part_of_json_lines_may_lack_a_key_that_others_have(tmp_path, prepare):
    """An optional key lacks in all rows of a part now and then; one that no part has is refused."""
    parts = tmp_path / "parts"
    parts.mkdir()
    rows = [{"clicked": n % 3 % 2, "user": f"u{n % 7}", "city": f"c{n % 5}"} for n in range(400)]
    for row in rows[:200]:
        del row["city"]
    for number in range(2):
        own = rows[number * 200 : number * 200 + 200]
        (parts / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    how = {"categorical": ("user", "city"), "numeric": (), "label": "clicked"}
    prepared = prepare(parts, **how)
    missing = prepared.vocabulary.id("city", None)
    found = sum(
        int((prepared.arrays(split)[0][:, 1] == missing).sum()) for split in prepared.num_rows
    )
    assert found == 200 and prepared.fields.sizes == (8, 7)
    with pytest.raises(InputError, match=r"0\.jsonl has no column 'town' in its first 200 rows"):
        prepare(parts, **how | {"categorical": ("user", "town")})
    with pytest.raises(InputError, match="has no column 'city'"):
        prepare(parts / "0.jsonl", **how)


def test_rows_of_several_lines_count_as_one_row(tmp_path, write_table, columns, prepare):
    """The split goes by a row's number, whatever form, files and lines the rows stand in."""
    notes = [("plain", "l1\nl2", 'say "hi"\n\n', '5" pipe')[i * 7 % 4] for i in range(2_000)]
    columns["note"] = notes
    quoted = ['"{}"'.format(note.replace('"', '""')) if "\n" in note else note for note in notes]
    rows = as_rows(columns | {"note": quoted})
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    parts = [write_table(part, f"{n}.csv") for n, part in enumerate((rows[:777], rows[777:]))]
    parts[1].write_text(",".join(rows[0]) + "\n" + parts[1].read_text())
    files = [tmp_path / "a.parquet", write_table(rows, "a.csv"), ",".join(map(str, parts))]
    prepared = [prepare(file, categorical=("city", "note")) for file in files]
    assert len({one.fingerprint for one in prepared}) == 1
    assert {tuple(one.num_rows.values()) for one in prepared} == {(1600, 200, 200)}
    # A row that is set aside has a number too, and takes none from the others.
    bad = write_table([*rows[:1000], ["1", "x"], *rows[1000:-1]], "b.csv")
    one = prepare(bad, categorical=("city", "note"), max_bad_rows=1)
    assert one.rejected == 1 and sum(one.num_rows.values()) == 1999
    assert one.num_rows["validation"] in (199, 200) and one.num_rows["test"] in (199, 200)


def test_a_table_of_bad_rows_alone_is_told_by_the_first(write_table, columns, prepare):
    rows = as_rows(columns)
    file = write_table([rows[0], *([*row[1:], ""] for row in rows[1:50])], "a.csv")
    with pytest.raises(InputError, match=r"no usable row; 49 rows are set aside, .* line 2: col"):
        prepare(file, max_bad_rows=100)
