import json

import numpy as np
import pytest

from optembed_jax import data
from optembed_jax.data.encoder import read_encoder
from optembed_jax.data.prepared import encoder_of
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


def test_what_was_written_encodes_the_same(prepared, raw, tmp_path):
    paths = tmp_path / "encoder.json", tmp_path / "vocabulary.parquet"
    encoder_of(prepared).write(*paths)
    again = read_encoder(*paths, prepared.fields)
    np.testing.assert_array_equal(again.encode(raw), expected(prepared, raw))
    np.testing.assert_array_equal(again.counts, prepared.counts)
    # Also when someone sorted the JSON.
    paths[0].write_text(json.dumps(json.loads(paths[0].read_text()), sort_keys=True))
    sorted_again = read_encoder(*paths, prepared.fields)
    np.testing.assert_array_equal(sorted_again.encode(raw), expected(prepared, raw))


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
    paths = tmp_path / "encoder.json", tmp_path / "vocabulary.parquet"
    encoder_of(prepared).write(*paths)
    names, sizes = prepared.fields.names, prepared.fields.sizes
    with pytest.raises(InputError, match="are of other fields"):
        read_encoder(*paths, Fields(names, (*sizes[:-1], sizes[-1] + 1)))
    with pytest.raises(InputError, match="cannot be used"):
        read_encoder(*paths, Fields(("a", "b", "c"), sizes))
    for content in ("{", "[]", '{"dataset": "unknown", "edges": {}}'):
        paths[0].write_text(content)
        with pytest.raises(InputError, match="cannot be used"):
            read_encoder(*paths, prepared.fields)
    encoder_of(prepared).write(*paths)
    paths[1].write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match="cannot be used"):
        read_encoder(*paths, prepared.fields)


def test_what_is_kept_is_written_and_read(prepared, raw, tmp_path):
    encoder = encoder_of(prepared)
    kept = np.arange(prepared.fields.num_features) % 2 == 0
    small = encoder.keep(kept, prepared.counts, 1)
    kept[prepared.fields.oov_ids] = True
    place = np.cumsum(kept) - 1
    full = encoder.encode(raw)
    expected = place[np.where(kept[full], full, prepared.fields.oov_ids)]
    np.testing.assert_array_equal(small.encode(raw), expected)
    files = tmp_path / "encoder.json", tmp_path / "v.safetensors"
    small.write(*files)
    read = read_encoder(*(file.read_bytes() for file in files), small.vocabulary.layout)
    np.testing.assert_array_equal(read.encode(raw), expected)
