import gzip

import numpy as np
import pytest

from optembed_jax import data
from optembed_jax.errors import InputError

COLUMNS = [f"I{i}" for i in range(1, 14)] + [f"C{i}" for i in range(1, 27)]
KINDS = ["bucket"] * 13 + ["categorical"] * 26


@pytest.fixture
def raw(tmp_path, write_table, criteo_rows):
    def make(rows=None, end="\n", name="raw/train.txt"):
        (tmp_path / "raw").mkdir(exist_ok=True)
        rows = criteo_rows(400) if rows is None else rows
        write_table(rows, name, "\t", end)
        return rows, str(tmp_path / "raw")

    return make


def prepare(tmp_path, folder, **options):
    return data.prepare(
        "criteo_display", data.DataOptions(raw_dir=folder, **options), tmp_path / "out"
    )


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("min_count", "vocab_from"), [(2, "train"), (1, "all"), (5, "train")])
def test_round_trip(tmp_path, raw, bucket, check_round_trip, end, min_count, vocab_from):
    rows, folder = raw(end=end)
    prepared = prepare(tmp_path, folder, min_count=min_count, vocab_from=vocab_from)
    assert prepared.fields.names == tuple(COLUMNS)
    label, *columns = (list(column) for column in zip(*rows, strict=True))
    columns[:13] = [[bucket(v) for v in column] for column in columns[:13]]
    check_round_trip(prepared, columns, KINDS, label, min_count, vocab_from == "all")


def test_new_rows_get_the_ids_of_preparation(tmp_path, raw, decode, bucket):
    rows, folder = raw()
    prepared = prepare(tmp_path, folder)
    new = [list(column) for column in list(zip(*rows[:50], strict=True))[1:]]
    new[13][0] = "ffffffff"  # never seen
    ids = prepared.encode(dict(zip(COLUMNS, new, strict=True)))
    assert ids.dtype == np.int32
    decoded = decode(prepared, ids)
    for row in range(50):
        for f, column in enumerate(new):
            value = bucket(column[row]) if f < 13 else column[row]
            assert decoded[row][f] in (value, "<oov>")
            known = value in prepared.vocabulary.fields[f].values.to_pylist()
            assert (decoded[row][f] == "<oov>") == (not known)
    with pytest.raises(InputError, match=r"row 1: column 'I3' is 'x', expected an integer"):
        prepared.encode({name: ["1", "x" if name == "I3" else "2"] for name in COLUMNS})
    with pytest.raises(InputError, match="column 'C26' is missing"):
        prepared.encode({name: ["1"] for name in COLUMNS[:-1]})


def test_gzip_and_parts_give_the_same_data(tmp_path, raw):
    _, folder = raw()
    whole = prepare(tmp_path, folder)
    path = tmp_path / "raw/train.txt"
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    (tmp_path / "raw/train.txt.gz").write_bytes(gzip.compress(b"".join(lines)))
    zipped = prepare(tmp_path / "z", folder)
    (tmp_path / "raw/train.txt.gz").unlink()
    (tmp_path / "raw/train_1.txt").write_bytes(b"".join(lines[:100]))
    (tmp_path / "raw/train_2.txt").write_bytes(b"".join(lines[100:]))
    parts = prepare(tmp_path / "p", folder)
    assert whole.fingerprint == zipped.fingerprint == parts.fingerprint
    assert len(parts.sources) == 2


def test_split_index_files(tmp_path, raw, all_rows):
    rows, folder = raw()
    index = np.random.default_rng(0).permutation(len(rows))
    (tmp_path / "x4").mkdir()
    for name, part in zip(("test", "valid", "train"), np.split(index, [40, 80]), strict=True):
        np.save(tmp_path / f"x4/{name}_index.npy", part)
    prepared = prepare(tmp_path, folder, split_index=str(tmp_path / "x4"))
    assert prepared.num_rows == {"train": len(rows) - 80, "validation": 40, "test": 40}
    labels = np.array([row[0] for row in rows])
    assert prepared.label_rate["test"] == labels[index[:40]].mean()
    np.save(tmp_path / "x4/train_index.npy", index[80:-1])
    with pytest.raises(InputError, match=f"data row {index[-1]} .from 0. is in none"):
        prepare(tmp_path / "again", folder, split_index=str(tmp_path / "x4"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\t2", "2 columns where 40 are expected"),
        ("2" + "\t1" * 39, "column 'label' is '2', expected 0 or 1"),
        ("\t1" * 39, "column 'label' is empty, expected 0 or 1"),
        ("1\t1\t1.5" + "\t1" * 37, "column 'I2' is '1.5', expected an integer"),
        ("1" + "\t1" * 40, "41 columns where 40 are expected"),
    ],
)
def test_a_bad_row_stops_with_file_line_and_reason(tmp_path, raw, line, message):
    _, folder = raw()
    path = tmp_path / "raw/train.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:123], line + "\n", *lines[123:]]))
    with pytest.raises(InputError, match=r"train\.txt line 124: ") as caught:
        prepare(tmp_path, folder)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_header_where_none_belongs(tmp_path, raw):
    _, folder = raw()
    path = tmp_path / "raw/train.txt"
    path.write_text("\t".join(["label", *COLUMNS]) + "\n" + path.read_text())
    with pytest.raises(InputError, match=r"line 1: .*if this line is a header, remove it"):
        prepare(tmp_path, folder)


def test_bad_rows_are_set_aside_up_to_a_number(tmp_path, raw):
    rows, folder = raw()
    clean = prepare(tmp_path / "clean", folder)
    path = tmp_path / "raw/train.txt"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, b"1\t2\n", b"0\t" + b"\xff" * 3 + b"\t" * 38 + b"\n"]))
    prepared = prepare(tmp_path, folder, max_bad_rows=2)
    assert prepared.rejected == 2
    assert sum(prepared.num_rows.values()) == len(rows)
    assert prepared.fields == clean.fields
    report = (prepared.path / "rejects.csv").read_text().splitlines()
    assert len(report) == 3 and "2 columns where 40 are expected" in report[1]
    assert f",{len(rows) + 2}," in report[2] and "invalid UTF-8" in report[2]
    with pytest.raises(InputError, match="more than max_bad_rows=1 unusable rows"):
        prepare(tmp_path, folder, max_bad_rows=1)


def test_missing_raw_files_say_what_to_put_where(tmp_path):
    with pytest.raises(InputError, match=r"raw_dir is not set\. Put train\.txt"):
        data.prepare("criteo_display", data.DataOptions(), tmp_path / "out")
    with pytest.raises(InputError, match=r"holds no train\.txt.*Put train\.txt"):
        prepare(tmp_path, str(tmp_path))
    with pytest.raises(InputError, match="is not a folder"):
        prepare(tmp_path, str(tmp_path / "nowhere"))
