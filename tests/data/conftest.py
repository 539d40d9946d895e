"""Small raw files of every format, and a preparation written without any of the library's code."""

import collections
import math

import numpy as np
import pytest

from optembed_jax.data import splits


@pytest.fixture
def write_table(tmp_path):
    """Writes rows of cells (None where missing) as text; gives the path."""

    def write(rows, name="table.csv", delimiter=",", end="\n"):
        path = tmp_path / name
        path.write_bytes(
            b"".join(
                (delimiter.join("" if c is None else str(c) for c in row) + end).encode()
                for row in rows
            )
        )
        return path

    return write


@pytest.fixture
def criteo_rows():
    """Rows of Criteo's shape: negative and huge integers, missing cells, duplicates."""

    def make(count, seed=0):
        rng = np.random.default_rng(seed)
        rows = []
        for i in range(count):
            integers = [
                None if rng.random() < 0.2 else int(v)
                for v in rng.choice([-3, 0, 1, 2, 3, 7, 55, 1000, 2**31, 10**25], 13)
            ]
            integers[4] = 5  # a field with one value
            categories = [
                None if rng.random() < 0.1 else f"{int(v) * 2654435761 % 2**32:08x}"
                for v in rng.zipf(1.4, 26)
            ]
            categories[3] = "0000abcd"
            if i == 17:
                categories[5] = "5eed5eed"  # seen once
            rows.append([int(rng.random() < 0.4), *integers, *categories])
        return rows + rows[:5]

    return make


@pytest.fixture
def awkward():
    """What raw files hold now and then, put into four neighbouring columns: `awkward(rows, first)`.

    Missing cells, a field with one value, negative and huge integers, a value seen once, and rows
    that occur twice.
    """

    def put(rows, first):
        rows = [list(row) for row in rows]
        for number, row in enumerate(rows):
            row[first] = None if number % 9 == 0 else row[first]
            row[first + 1] = 7
            row[first + 2] = (-5, 10**30, row[first + 2], row[first + 2])[number % 4]
        rows[5][first + 3] = 987_654_321
        return rows + rows[:7]

    return put


@pytest.fixture
def naive():
    """What preparation should give, from its description: one dictionary per field.

    `naive(columns, kinds, training, min_count)` gives for each field the list of values in the
    order of their rows, the OOV row left out.
    """

    def vocabularies(columns, kinds, counted, min_count):
        made = []
        for values, kind in zip(columns, kinds, strict=True):
            least = 1 if kind == "bucket" else min_count
            counts = collections.Counter(v for v, use in zip(values, counted, strict=True) if use)
            kept = [v for v, count in counts.items() if count >= least]
            kept.sort(key=lambda v: (-counts[v], v is None, (v or "").encode()))
            made.append(kept)
        return made

    return vocabularies


@pytest.fixture
def bucket():
    """Criteo's bucket of an integer, by its formula."""

    def of(value):
        if value is None:
            return None
        return str(value if value <= 2 else math.floor(math.log(value) ** 2))

    return of


@pytest.fixture
def decode():
    """Raw values of ids, row by row: `decode(prepared, ids)`."""

    def rows(prepared, ids):
        table = [prepared.vocabulary.raw(row) for row in range(prepared.fields.num_features)]
        return [
            tuple("<oov>" if table[i].kind == "oov" else table[i].value for i in row)
            for row in ids.tolist()
        ]

    return rows


@pytest.fixture
def all_rows():
    """Ids and labels of all splits together."""

    def read(prepared):
        parts = [prepared.arrays(split) for split in prepared.num_rows]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    return read


@pytest.fixture
def check_layout():
    """Offsets never overlap, every id lies in its field's block, counts are the training's."""

    def check(prepared):
        fields = prepared.fields
        ends = fields.offsets + np.array(fields.sizes)
        assert fields.offsets[0] == 0
        np.testing.assert_array_equal(fields.offsets[1:], ends[:-1])
        for split in prepared.num_rows:
            ids, labels = prepared.arrays(split)
            assert ids.dtype == np.int32 and labels.dtype == np.float32
            assert ids.shape == (prepared.num_rows[split], fields.num_fields)
            assert (ids >= fields.offsets).all() and (ids < ends).all()
            assert np.isin(labels, [0.0, 1.0]).all()
            np.testing.assert_allclose(labels.mean(), prepared.label_rate[split], rtol=1e-6)
        seen = np.bincount(prepared.arrays("train")[0].ravel(), minlength=fields.num_features)
        np.testing.assert_array_equal(prepared.counts, seen)

    return check


@pytest.fixture
def check_round_trip(naive, decode, all_rows, check_layout):
    """Every row comes back, each value as it was or, where it is too rare, as its field's OOV row.

    `check(prepared, columns, kinds, labels, min_count, everything)`: the values of each field by
    row, as text, and whether all rows count for the vocabulary or those of training.
    """

    def check(prepared, columns, kinds, labels, min_count, everything=False):
        check_layout(prepared)
        training = splits.random_split(np.arange(len(labels)), 0) == splits.TRAIN
        vocabularies = naive(columns, kinds, training | everything, min_count)
        assert prepared.fields.sizes == tuple(1 + len(known) for known in vocabularies)
        for field, known in zip(prepared.vocabulary.fields, vocabularies, strict=True):
            assert field.values.to_pylist() == known
        shown = [
            [value if value in set(known) else "<oov>" for value in column]
            for column, known in zip(columns, vocabularies, strict=True)
        ]
        expected = [(*row, float(label)) for *row, label in zip(*shown, labels, strict=True)]
        ids, read = all_rows(prepared)
        found = [(*row, label) for row, label in zip(decode(prepared, ids), read, strict=True)]
        assert sorted(found, key=repr) == sorted(expected, key=repr)

    return check
