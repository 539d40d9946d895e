"""Random tables through the whole preparation, against the description of what it should give."""

import tempfile
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optembed_jax import data
from optembed_jax.data import splits
from optembed_jax.data.preparing import merge, pipeline
from optembed_jax.data.raw import text
from optembed_jax.data.vocabulary import FieldVocabulary, layout_of
from optembed_jax.errors import InputError


def is_itself(cell):
    """Whether no column gives it another spelling: numbers, booleans and blanks around a cell have
    tests of their own.
    """
    try:
        float(cell)
    except ValueError:
        return cell.lower() not in ("true", "false") and cell == cell.strip(" \t")
    return False


CELLS = st.one_of(
    st.none(),
    st.sampled_from(["a", "b", "c", "NA", "é", "0", "00", "x y", '"', "a,b", "two\nlines"]),
    st.text(
        st.characters(codec="utf-8", exclude_characters="\r\0", exclude_categories=("Cs",)),
        min_size=1,
        max_size=6,
    ).filter(is_itself),
)


@st.composite
def tables(draw):
    rows = draw(st.integers(40, 120))
    width = draw(st.integers(1, 4))
    columns = [draw(st.lists(CELLS, min_size=1, max_size=12)) for _ in range(width)]
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    table = {
        f"c{i}": [values[int(v)] for v in np.minimum(rng.zipf(1.5, rows), len(values)) - 1]
        for i, values in enumerate(columns)
    }
    # Every split has both labels: each group of ten has one row of each.
    labels = rng.integers(0, 2, rows)
    for split in range(3):
        chosen = np.flatnonzero(splits.random_split(np.arange(rows), 0) == split)
        labels[chosen[0]], labels[chosen[1]] = 0, 1
    return {"y": labels.tolist(), **table}


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(table=tables(), min_count=st.integers(1, 4), everything=st.booleans())
def test_any_table_comes_back(table, min_count, everything, naive, decode, check_layout):
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/t.csv"
        csv.write_csv(pa.table(table), path)
        names = tuple(name for name in table if name != "y")
        options = data.DataOptions(
            table_file=path,
            label="y",
            categorical=names,
            min_count=min_count,
            vocab_from="all" if everything else "train",
        )
        prepared = data.prepare("table", options, f"{folder}/out")
        check_layout(prepared)
        split = splits.random_split(np.arange(len(table["y"])), 0)
        counted = np.full(len(split), True) if everything else split == 0
        columns = [table[name] for name in names]
        vocabularies = naive(columns, ["categorical"] * len(names), counted, min_count)
        for field, values in zip(prepared.vocabulary.fields, vocabularies, strict=True):
            assert field.values.to_pylist() == values
        for number, name in enumerate(splits.SPLITS):
            rows = np.flatnonzero(split == number)
            expected = [
                (
                    *(
                        column[row] if column[row] in known else "<oov>"
                        for column, known in zip(columns, vocabularies, strict=True)
                    ),
                    float(table["y"][row]),
                )
                for row in rows
            ]
            ids, labels = prepared.arrays(name)
            found = [
                (*row, label) for row, label in zip(decode(prepared, ids), labels, strict=True)
            ]
            assert sorted(found, key=repr) == sorted(expected, key=repr)
        # Both ways: value -> id -> value, and the encoder agrees with preparation.
        new = prepared.encode({name: table[name] for name in names})
        for f, (name, known) in enumerate(zip(names, vocabularies, strict=True)):
            for value, row in zip(table[name], new[:, f].tolist(), strict=True):
                assert prepared.vocabulary.id(name, value) == row
                if value in known:
                    assert prepared.vocabulary.raw(row).value == value
                else:
                    assert row == prepared.fields.oov_ids[f]


@pytest.fixture
def big_table(tmp_path):
    rng = np.random.default_rng(0)
    n = 6_000
    table = {"y": rng.integers(0, 2, n), "x": rng.normal(size=n)}
    for i in range(3):
        table[f"c{i}"] = [None if v == 3 else f"{v * 7919 % 1000:03d}" for v in rng.zipf(1.3, n)]
    path = tmp_path / "t.csv"
    csv.write_csv(pa.table(table), path)
    return data.DataOptions(
        table_file=str(path), label="y", categorical=("c0", "c1", "c2"), numeric=("x",)
    )


def in_blocks_of(size, original=text.TextSource.__init__):
    def made(self, *args, **kwargs):
        original(self, *args, **(kwargs | {"block_bytes": size}))

    return made


def test_blocks_threads_and_partial_merges_do_not_change_the_result(
    tmp_path, big_table, monkeypatch
):
    reference = data.prepare("table", big_table, tmp_path / "a")
    monkeypatch.setattr(text.TextSource, "__init__", in_blocks_of(20_000))
    monkeypatch.setattr(merge, "VALUES_AT_ONCE", 400)
    other = data.prepare("table", big_table, tmp_path / "b", engine=data.EngineOptions(workers=5))
    assert other.fingerprint == reference.fingerprint


def test_several_shards_hold_the_same_rows(tmp_path, big_table, monkeypatch, check_layout):
    one = data.prepare("table", big_table, tmp_path / "a")
    monkeypatch.setattr(pipeline, "BUCKET_BYTES", 10_000)
    many = data.prepare("table", big_table, tmp_path / "b")
    check_layout(many)
    assert len(one.shards["train"]) == 1 and len(many.shards["train"]) > 5
    for split in splits.SPLITS:
        first, second = one.arrays(split), many.arrays(split)
        both = [np.column_stack([ids, labels]) for ids, labels in (first, second)]
        both = [rows[np.lexsort(rows.T)] for rows in both]
        np.testing.assert_array_equal(*both)
        assert (first[0] != second[0]).any()  # but not in the same order


def test_stored_order_is_shuffled(tmp_path):
    rows = 20_000
    table = pa.table({"y": np.arange(rows) % 2, "c": np.arange(rows) // 100})
    path = tmp_path / "t.csv"
    csv.write_csv(table, path)
    options = data.DataOptions(table_file=str(path), label="y", categorical=("c",))
    prepared = data.prepare("table", options, tmp_path / "out")
    ids, _ = prepared.arrays("train")
    order = np.array([int(prepared.vocabulary.raw(int(i)).value) for i in ids[:, 0]])
    assert abs(np.corrcoef(np.arange(len(order)), order)[0, 1]) < 0.03
    assert (np.diff(order) == 0).mean() < 0.02


def test_a_vocabulary_that_cannot_be_written_is_told_before_the_next_shard(tmp_path):
    def no_fields():
        raise OSError("the disk is full")
        yield

    calls = 0
    with (
        pytest.raises(OSError, match="the disk is full"),
        pipeline._written_beside(tmp_path / "v.parquet", no_fields()) as check,
    ):
        while calls < 10_000:
            time.sleep(0.001)
            calls += 1
            check()
    assert calls < 10_000


def test_a_shard_that_cannot_be_written_ends_the_vocabulary(tmp_path):
    asked, stop = [], threading.Event()

    def fields():
        for number in range(1_000):
            stop.wait(10)
            asked.append(number)
            yield FieldVocabulary(f"f{number}", pa.array(["a"])), np.array([0, 1])

    with (
        pytest.raises(OSError, match="no room"),
        pipeline._written_beside(tmp_path / "v.parquet", fields()) as check,
    ):
        check()
        threading.Timer(0.1, stop.set).start()
        raise OSError("no room")
    assert len(asked) <= 1


def test_too_many_ids_are_refused():
    with pytest.raises(InputError, match="more than int32 ids can number"):
        layout_of(["a"], [2**31])


NUMBERS = [str(number) for number in range(1, 11)]


@pytest.mark.parametrize(
    ("parts", "values"),
    [
        ([NUMBERS, [*(f"{n}.0" for n in NUMBERS), ""]], [None, *NUMBERS]),
        ([[*(f"{n}.0" for n in NUMBERS), ""], NUMBERS], [None, *NUMBERS]),
        ([["True", "False"], ["true", "false"]], ["false", "true"]),
        ([["x", "NULL"], ["x", ""]], [None, "x"]),
        # Versions of one length in each file are not those of another.
        ([["1.8", "1.9"], ["1.10", "1.11"]], ["1.10", "1.11", "1.8", "1.9"]),
        ([["12", "12.0"], ["13"]], ["12", "12.0", "13"]),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_values_of_parts_that_are_written_in_one_way_each_are_the_same(
    tmp_path, monkeypatch, parts, values, kind
):
    monkeypatch.setattr(text.TextSource, "__init__", in_blocks_of(200))  # Several of each file.
    for number, cells in enumerate(parts):
        rows = [cells[row % len(cells)] for row in range(100)]
        table = pa.table({"y": [str(row % 2) for row in range(100)], "user": rows})
        if number and kind == "parquet":  # Of texts: a file of types is one way of its own.
            pq.write_table(table, tmp_path / f"{number}.parquet")
        else:
            csv.write_csv(table, tmp_path / f"{number}.csv")
    files = ",".join(map(str, sorted(tmp_path.iterdir())))
    options = data.DataOptions(table_file=files, label="y", categorical=("user",), min_count=1)
    prepared = data.prepare("table", options, tmp_path / "out")
    (field,) = prepared.vocabulary.fields
    assert set(field.values.to_pylist()) == set(values)


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (["1", "1.0", "2.0"], ["1", "1.0", "2.0"]),
        (["True", "true", "0"], ["0", "True", "true"]),
        (["1.0", "2.0"], ["1", "2"]),
    ],
)
def test_names_of_folders_are_one_column_of_one_writer(tmp_path, names, values):
    for name in names:
        folder = tmp_path / "in" / f"v={name}"
        folder.mkdir(parents=True)
        rows = "".join(f"{row % 2},u{row % 3}\n" for row in range(40))
        (folder / "rows.csv").write_text("y,u\n" + rows)
    options = data.DataOptions(
        table_file=str(tmp_path / "in"), label="y", categorical=("v",), min_count=1
    )
    prepared = data.prepare("table", options, tmp_path / "out")
    assert sorted(prepared.vocabulary.fields[0].values.to_pylist()) == values
