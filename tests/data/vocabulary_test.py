import numpy as np
import pyarrow as pa
import pytest

from optembed_jax.data import vocabulary
from optembed_jax.data.raw.columns import code
from optembed_jax.data.vocabulary import FieldVocabulary, RawValue, Vocabulary
from optembed_jax.errors import InputError


@pytest.fixture
def made():
    return Vocabulary.of(
        (
            FieldVocabulary("a", pa.array(["x", None, "y"])),
            FieldVocabulary("empty", pa.array([], pa.string())),
            FieldVocabulary("n", pa.array(["[-inf, 1.0)", "[1.0, inf)", None]), np.array([1.0])),
        )
    )


def test_both_ways(made):
    assert made.layout.sizes == (4, 1, 4)
    for row in range(9):
        raw = made.raw(row)
        if raw.kind != "oov":
            assert made.id(raw.field, raw.value) == row
    assert made.raw(0) == RawValue("a", None, "oov")
    assert made.raw(2) == RawValue("a", None, "missing")
    assert made.raw(4) == RawValue("empty", None, "oov")
    assert made.id("a", "never seen") == 0 and made.id("empty", None) == 4
    for row in (-1, 9):
        with pytest.raises(InputError, match=r"not within 0 \.\. 8"):
            made.raw(row)
    with pytest.raises(InputError, match="no field 'b'; there are: a, empty, n"):
        made.id("b", "x")


def test_encode(made):
    values = code(pa.array(["y", None, "z", "x"]))
    ids = made.encode([values, values, np.array([0.5, 1.0, np.nan, 7.0])])
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, [[3, 4, 6], [2, 4, 7], [0, 4, 8], [1, 4, 7]])


def write(path, made, counts):
    counts = np.split(counts, made.layout.offsets[1:])
    vocabulary.write_vocabulary(path, zip(made.fields, counts, strict=True))


def test_written_and_read(made, tmp_path):
    path = tmp_path / "v.parquet"
    counts = np.arange(9) * 10**10
    write(path, made, counts)
    found = vocabulary.read_vocabulary(path, made.layout, {"n": np.array([1.0])}, {})
    for ours, theirs in zip(made.fields, found.fields, strict=True):
        assert ours.name == theirs.name and ours.values.equals(theirs.values)
    np.testing.assert_array_equal(vocabulary.read_counts(path), counts)
    assert [found.raw(row) for row in range(9)] == [made.raw(row) for row in range(9)]


@pytest.mark.parametrize("group", [1, 2, 3, 100])
def test_a_field_is_read_alone_whatever_the_row_groups(made, tmp_path, group):
    import pyarrow.parquet as pq

    path = tmp_path / "v.parquet"
    write(path, made, np.zeros(9, np.int64))
    pq.write_table(pq.read_table(path), path, row_group_size=group)
    for number, field in enumerate(made.fields[:2]):
        found = vocabulary.read_field(path, made.layout, number)
        assert found.name == field.name and found.values.equals(field.values)


def test_the_file_is_readable_without_this_package(made, tmp_path):
    import pyarrow.parquet as pq

    path = tmp_path / "v.parquet"
    write(path, made, np.zeros(9, np.int64))
    rows = pq.read_table(path).to_pylist()
    assert [row["id"] for row in rows] == list(range(9))
    assert rows[1] == {"id": 1, "field": "a", "kind": "value", "value": "x", "count": 0}
    assert [row["kind"] for row in rows[:5]] == ["oov", "value", "missing", "value", "oov"]


def test_numeric_fields_alone():
    edges = [np.array([1.0]), np.array([0.0, 2.0])]
    names = [["[-inf, 1.0)", "[1.0, inf)", None], ["[-inf, 0.0)", "[0.0, 2.0)", "[2.0, inf)"]]
    made = Vocabulary.of(
        [
            FieldVocabulary(name, pa.array(values), own)
            for name, values, own in zip("ab", names, edges, strict=True)
        ]
    )
    numbers = np.linspace(-3, 3, 70)
    numbers[5] = np.nan
    ids = made.encode([numbers, numbers])
    wanted = [[1 + (n >= 1) if n == n else 3, 4 + (1 + (n >= 0) + (n >= 2) if n == n else 0)]
              for n in numbers.tolist()]  # fmt: skip
    np.testing.assert_array_equal(ids, wanted)
