import datetime
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from optembed_jax import data
from optembed_jax.data.encoder import read_encoder
from optembed_jax.data.prepared import encoder_of
from optembed_jax.data.raw.files import RawFile
from optembed_jax.data.raw.layout import FOUND
from optembed_jax.data.raw.table_file import source_of
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    # Its facts list fields by name, and JSON may bring names in another order than the fields'.
    options = data.DataOptions(
        synthetic_rows=300,
        synthetic_field_size=20,
        synthetic_signal_fields=2,
        synthetic_noise_fields=1,
    )
    return data.prepare("synthetic", options, tmp_path_factory.mktemp("data"))


@pytest.fixture
def raw():
    return {
        "noise_0": ["v1", "v2", "", "never"],
        "signal_0": ["v0", "v1", "v2", "v3"],
        "signal_1": ["v3", "v2", None, "v0"],
        "more": [1, 2, 3, 4],
    }


def expected(prepared, raw):
    """Looked up value by value."""
    names = prepared.fields.names
    return [
        [prepared.vocabulary.id(name, raw[name][row] or None) for name in names] for row in range(4)
    ]


def test_every_value_gets_the_id_of_its_own_field(prepared, raw):
    encoder = encoder_of(prepared)
    assert [column.name for column in encoder.columns] == list(prepared.fields.names)
    assert set(encoder.sources) == {"signal_0", "signal_1", "noise_0"}
    np.testing.assert_array_equal(encoder.encode(raw), expected(prepared, raw))


def written(encoder):
    """The content of an encoder's two files."""
    described, values, tables = encoder.written()
    assert tables is None  # There is nothing to look up.
    return described, values


def test_what_was_written_encodes_the_same(prepared, raw, tmp_path):
    encoder = encoder_of(prepared)
    described, values = written(encoder)
    again = read_encoder(described, values, prepared.fields)
    np.testing.assert_array_equal(again.encode(raw), expected(prepared, raw))
    np.testing.assert_allclose(again.expected.shares, encoder.expected.shares, atol=1e-6)
    assert again.expected.rows == encoder.expected.rows == prepared.num_rows["train"]
    for row in range(prepared.fields.num_features):
        assert again.vocabulary.raw(row) == prepared.vocabulary.raw(row)
    for ours, theirs in zip(again.vocabulary.fields, prepared.vocabulary.fields, strict=True):
        assert ours.values.equals(theirs.values) and ours.rule == theirs.rule
    # Also when someone sorted the facts.
    sorted_again = read_encoder(
        json.dumps(json.loads(described), sort_keys=True).encode(), values, prepared.fields
    )
    np.testing.assert_array_equal(sorted_again.encode(raw), expected(prepared, raw))


def test_fewer_values(prepared, raw):
    encoder = encoder_of(prepared)
    rows = np.random.default_rng(0).random(prepared.fields.num_features) < 0.5
    small = encoder.keep(rows, prepared.counts, prepared.options["min_count"])
    rows[prepared.fields.oov_ids] = True
    place = np.cumsum(rows) - 1
    ids = encoder.encode(raw)
    stand_in = np.broadcast_to(prepared.fields.oov_ids, ids.shape)
    np.testing.assert_array_equal(small.encode(raw), place[np.where(rows[ids], ids, stand_in)])
    # Training rows whose value went are what is to be expected of others.
    lost = np.where(rows, 0, prepared.counts)
    lost = np.bincount(prepared.fields.field_of_row, lost) / prepared.num_rows["train"]
    grown = small.expected.shares - encoder.expected.shares
    assert (grown <= lost + 1e-9).all() and (grown >= 0).all() and grown.sum() > 0.1


def test_paths_of_raw_files_stay_behind(prepared):
    assert not {"raw_dir", "table_file"} & set(encoder_of(prepared).options)


def test_rows_that_cannot_be_used(prepared, raw):
    encoder = encoder_of(prepared)
    with pytest.raises(InputError, match="column 'noise_0' is missing; the rows have signal_0"):
        encoder.encode({name: raw[name] for name in ("signal_0", "signal_1")})
    with pytest.raises(InputError, match="different lengths"):
        encoder.encode({**raw, "noise_0": ["v1"]})
    empty = encoder.encode({name: [] for name in encoder.sources})
    assert empty.shape == (0, 3) and empty.dtype == np.int32


def test_damaged_descriptions(prepared, tmp_path):
    described, values = written(encoder_of(prepared))
    names, sizes = prepared.fields.names, prepared.fields.sizes
    with pytest.raises(InputError, match="holds other than its"):
        read_encoder(described, values, Fields(names, (*sizes[:-1], sizes[-1] + 1)))
    with pytest.raises(InputError, match="the fields are"):
        read_encoder(described, values, Fields(("a", "b", "c"), sizes))
    for content in (b"{", b"[]", b'{"dataset": "unknown", "edges": {}}'):
        with pytest.raises(InputError, match="does not say how fields are made"):
            read_encoder(content, values, prepared.fields)
    other = json.loads(described) | {"dataset": "unknown"}
    with pytest.raises(InputError, match="not of a data set that is known here"):
        read_encoder(json.dumps(other).encode(), values, prepared.fields)
    with pytest.raises(InputError, match="values cannot be read"):
        read_encoder(described, b"PAR1 no more", prepared.fields)


def test_criteo_value_by_value_as_by_columns(criteo_rows, write_table, tmp_path, monkeypatch):
    rows = criteo_rows(300)
    write_table(rows, "train.txt", "\t")
    options = data.DataOptions(raw_dir=str(tmp_path), min_count=1)
    prepared = data.prepare("criteo_display", options, tmp_path / "out")
    encoder = encoder_of(prepared)
    names = [f"I{n}" for n in range(1, 14)] + [f"C{n}" for n in range(1, 27)]
    raw = {name: [row[1 + n] for row in rows] for n, name in enumerate(names)}
    by_columns = encoder.encode(raw)
    np.testing.assert_array_equal(encoder.rows.encode(raw), by_columns)
    known = np.concatenate([prepared.arrays(split)[0] for split in prepared.num_rows])
    assert {row.tobytes() for row in by_columns} == {row.tobytes() for row in known}
    with pytest.raises(InputError, match="row 2: column 'I3' is 'x', expected an integer"):
        encoder.rows.encode({**raw, "I3": ["1", "2", "x", *raw["I3"][3:]]})


def test_what_is_kept_is_written_and_read(prepared, raw, tmp_path):
    encoder = encoder_of(prepared)
    kept = np.arange(prepared.fields.num_features) % 2 == 0
    small = encoder.keep(kept, prepared.counts, 1)
    kept[prepared.fields.oov_ids] = True
    place = np.cumsum(kept) - 1
    full = encoder.encode(raw)
    expected = place[np.where(kept[full], full, prepared.fields.oov_ids)]
    np.testing.assert_array_equal(small.encode(raw), expected)
    read = read_encoder(*written(small), small.vocabulary.layout)
    np.testing.assert_array_equal(read.encode(raw), expected)


def test_a_table_of_numbers_alone(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{a},{a * b:.2f},{int(b > 0.5)}" for a, b in rng.random((200, 2)).round(3).tolist()]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,click", *lines]) + "\n")
    options = data.DataOptions(
        table_file=str(tmp_path / "rows.csv"), label="click", numeric=("a", "b"), numeric_bins=5
    )
    encoder = encoder_of(data.prepare("table", options, tmp_path / "data"))
    numbers = np.linspace(-0.5, 1.5, 150)
    wanted = [
        int(encoder.vocabulary.layout.offsets[f])
        + bins.places[np.searchsorted(bins.edges, numbers, side="right")]
        for f, bins in enumerate(encoder.vocabulary.lookup.bins)
    ]
    for rows in (1, 64, 65, 150):
        found = encoder.encode({"a": numbers[:rows], "b": numbers[:rows].tolist()})
        np.testing.assert_array_equal(found, np.stack(wanted, axis=1)[:rows])


START = datetime.datetime(2024, 3, 1)
# Typed values, and how other tools write them as text.
WRITTEN = {
    "hours": (
        [START + n * datetime.timedelta(hours=6) for n in range(40)],
        [f"{{:%Y-%m-%d{between}%H:%M:%S{end}}}" for between in " T" for end in ("", ".%f")],
    ),
    "milliseconds": (
        [START + n * datetime.timedelta(milliseconds=250) for n in range(48)],
        ["{:%Y-%m-%d %H:%M:%S.%f}", "{:%Y-%m-%dT%H:%M:%S.%f}"],
    ),
    "large floats": ([12.0, 7.0, 2.5, 1e20, -1e-50, math.inf], ["{}"]),
}


@pytest.mark.parametrize("column", WRITTEN)
def test_text_is_read_as_the_typed_values_of_training_are(tmp_path, column):
    values, ways = WRITTEN[column]
    rows = values * 25  # Each is there in training, whatever is drawn.
    pq.write_table(pa.table({"a": rows, "y": np.arange(len(rows)) % 2}), tmp_path / "a.parquet")
    options = data.DataOptions(
        table_file=str(tmp_path / "a.parquet"), label="y", categorical=("a",)
    )
    encoder = encoder_of(data.prepare("table", options, tmp_path / "out"))
    expected = encoder.encode({"a": values})
    assert len(np.unique(expected)) == len(values) and 0 not in expected  # 0: has no row
    for way in ways:
        (tmp_path / "new.csv").write_text("\n".join(["a", *map(way.format, values), ""]))
        source = source_of(RawFile(tmp_path / "new.csv"), encoder.sources, FOUND)
        found = encoder.encode_rows(source.read(next(source.blocks())), first_row=1)
        np.testing.assert_array_equal(found, expected, err_msg=way)


@pytest.mark.parametrize("form", ["parquet", "json", "mixed json"])
def test_a_file_of_typed_values_is_read_as_typed_values_are(tmp_path, form):
    """12.0 in such a file is 12, but where the training file has `12` and `12.0` nobody knows."""
    texts = ["12", "12.0", "7"] * 40
    lines = [f"{text},{n % 2}" for n, text in enumerate(texts)]
    (tmp_path / "a.csv").write_text("\n".join(["a,y", *lines]))
    options = data.DataOptions(table_file=str(tmp_path / "a.csv"), label="y", categorical=("a",))
    encoder = encoder_of(data.prepare("table", options, tmp_path / "out"))

    def ids_of(values):
        path = tmp_path / "new"
        if form == "parquet":
            pq.write_table(pa.table({"a": values}), path)
        else:
            last = ["a text"] if form == "mixed json" else []
            path.write_text("".join(json.dumps({"a": value}) + "\n" for value in values + last))
        source = source_of(RawFile(path), encoder.sources, FOUND)
        found = encoder.encode_rows(source.read(next(source.blocks())), first_row=1)
        return found[: len(values)]

    np.testing.assert_array_equal(ids_of([7.0, None]), encoder.encode({"a": ["7", None]}))
    np.testing.assert_array_equal(ids_of(["12.0"]), encoder.encode({"a": ["12.0"]}))
    np.testing.assert_array_equal(ids_of([12]), encoder.encode({"a": ["12"]}))
    with pytest.raises(InputError, match=r"row 2: column 'a' is 12 as a typed value"):
        ids_of([7.0, 12.0])
