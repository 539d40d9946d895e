"""What a bundle will take, before there is a model: a cost in bytes of rows, dimensions, the rest.

A folder's bytes are nearly linear in what is chosen: a row costs its value in the vocabulary, its
linear weight and its scale, each number of it some bits, each dimension of a field the kernel that
reads it, and all else is there in any case. So bytes can be a budget of the search. Values differ
in length, and rows that are kept may not be like others: where it is known which those are, their
values are deflated as the bundle will have them. What is planned
where no storage is asked for is 4 bits for a number and 8 for linear weights and kernels; the
export, which knows the model, then finds the bits that keep a limit exactly, from there up or down.
"""

import dataclasses
import functools
import zlib

import jax
import numpy as np

from optembed_jax.data.encoder import Encoder
from optembed_jax.fields import Fields
from optembed_jax.method.bag import bags_of
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving.bundle_writer import Provenance, content_of
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.forward_module import PLATFORMS
from optembed_jax.serving.network_storage import kernels_of
from optembed_jax.serving.stored_model import (
    Storage,
    StoredModel,
    served_network,
    store,
    tensors_of,
)
from optembed_jax.table.compact import CompactIndex
from optembed_jax.table.packing import bits_of, is_by_field, packed_bytes
from optembed_jax.values.lookup import Lookup
from optembed_jax.values.vocabulary_file import write_values

STORAGE = "int4"
"""That is planned with where none is asked for."""

_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "int8": 1.0}
_SCALE = 2
_TOLD, _TOLD_LATER, _TOLD_OF_FIELD = 1024, 340, 64
"""Of what a run tells of itself in manifest and card: flags and metrics where nothing is known of
them; what the export adds to them; larger numbers of a field and of its ids in sample rows."""

_FEW_ROWS = 100
"""Of a field, in the model that is made to count what there is beside rows."""


@dataclasses.dataclass(frozen=True)
class BundleCost:
    """Bytes of a bundle's folder.

    Attributes:
      fixed: of all that is there in any case.
      of_row: of a row beside its numbers, float64 ``[F]``: value, scale and linear weight, and the
        end of its last byte.
      of_number: of each number of a row.
      of_dim: of what reads a dimension of a field: of the network.
      values: what ``of_row`` has of values, and which they are; None where all are in the bundle.
      vectors: rows of each field that no mask shows: what pruned ids read.
    """

    fixed: int
    of_row: np.ndarray
    of_number: float
    of_dim: float
    values: "Values | None" = None
    vectors: int = 0

    def bytes(self, rows: np.ndarray, dims: np.ndarray) -> np.ndarray:
        """Bytes float64 ``[...]`` of tables of int ``[..., F]`` rows and dimensions."""
        rows, dims = np.asarray(rows, np.float64), np.asarray(dims, np.float64)
        numbers = rows * self.of_number + self.of_dim
        return self.fixed + (rows * self.of_row + numbers * dims).sum(axis=-1)

    @property
    def per_dim(self) -> int:
        """What reads a dimension, as so many numbers of rows."""
        return int(np.ceil(self.of_dim / self.of_number))

    def numbers(self, rows: np.ndarray, dims: np.ndarray, more: float = 0.0) -> int:
        """What tables cost, as numbers of rows: what is reckoned, rounded up.

        Args:
          rows: of each field, ``[F]``.
          dims: columns of each field, int ``[F]``.
          more: bytes besides.
        """
        beside = np.ceil(((rows * self.of_row).sum() + more) / self.of_number)
        return int(beside) + int(np.ceil(((rows + self.per_dim) * dims).sum()))

    def of_rows(self, rows: np.ndarray, dims: np.ndarray, fields: Fields) -> int:
        """The same of these very rows bool ``[V]``, with their own values."""
        more = 0.0 if self.values is None else self.values.more(rows)
        return self.numbers(fields.rows_per_field(rows) + self.vectors, dims, more)

    def beside(self, rows: np.ndarray, fields: Fields) -> int:
        """What rows bool ``[V]`` cost beside their dimensions, as numbers of rows."""
        return self.of_rows(rows, np.zeros(fields.num_fields, np.int64), fields)

    def limit(self, max_bytes: int) -> int:
        """What a limit of bytes leaves to rows and dimensions, as numbers of rows."""
        return int((max_bytes - self.fixed) // self.of_number)

    def told(self, cost: int) -> int:
        """The bytes of a folder whose rows and dimensions cost so many numbers of rows."""
        return int(np.ceil(self.fixed + cost * self.of_number))

    def affordable_rows(self, max_bytes: int, sizes: np.ndarray, dim: int) -> int:
        """Rows of ``dim`` columns that a limit pays for, spread over the fields as all rows are.

        Args:
          max_bytes: of the folder.
          sizes: rows of each field, int ``[F]``.
          dim: columns of every field.
        """
        of_row = float(np.average(self.of_row, weights=sizes)) + dim * self.of_number
        left = max_bytes - self.fixed - self.of_dim * dim * len(sizes)
        return int(max(left, 0.0) // of_row)


@dataclasses.dataclass(frozen=True, eq=False)
class Values:
    """The values of a vocabulary.

    Attributes:
      encoder: with all of them.
      of_row: bytes of a value of each field, on average over all, float64 ``[F]``; of one that is
        looked up, of the table too.
    """

    encoder: Encoder
    of_row: np.ndarray

    def more(self, rows: np.ndarray) -> float:
        """Bytes that the values of rows bool ``[V]`` take in their file more than so many of all;
        its header is not among them. Tables that values are looked up in are, in their file.
        """
        begins = np.cumsum(self.lookup.sizes)[:-1]
        of_fields = np.split(np.asarray(rows, bool), begins)
        average = sum(
            float(own) * int(kept.sum()) for own, kept in zip(self.of_row, of_fields, strict=True)
        )
        kept = self.lookup.keep(of_fields)
        tables = _table_bytes(self.encoder.of(kept)) - self.tables
        return len(write_values(kept)) - self.header - average + tables

    @property
    def lookup(self) -> Lookup:
        """The values."""
        return self.encoder.vocabulary.lookup

    @functools.cached_property
    def tables(self) -> int:
        """Bytes of the tables of no value."""
        return _table_bytes(self._of_none)

    @functools.cached_property
    def header(self) -> int:
        """Bytes of the file without values."""
        return len(write_values(self._of_none.vocabulary.lookup))

    @functools.cached_property
    def _of_none(self) -> Encoder:
        return self.encoder.of(self.lookup.keep([np.zeros(n, bool) for n in self.lookup.sizes]))


def cost_of(
    config: ModelConfig,
    fields: Fields,
    encoder: Encoder,
    *,
    own_ids: bool,
    storage: str = STORAGE,
    told: Provenance | None = None,
    dims: np.ndarray | None = None,
) -> BundleCost:
    """What a bundle of a model costs.

    Args:
      config: the model.
      fields: of the prepared data set.
      encoder: with all its values.
      own_ids: whether only kept values have ids, as those of a bundle of one stand-in do; else
        all values are in it, and a remap.
      storage: of rows; linear weights and kernels as :meth:`Storage.uniform` has them beside it.
      told: what the bundle tells of the run, in as many characters; None reckons with some.
      dims: columns of each field, int ``[F]``, where they are known; None reckons with those of all
        fields or, where they are searched, with as many different ones as there can be.
    """
    # Cells of a request may have more values than any of the data.
    fields = dataclasses.replace(fields, slots=encoder.slots)
    of_values, bits = _value_bytes(encoder), bits_of(storage)
    every = np.full(fields.num_fields, config.latent_dim)
    narrow, wide = (_Plain.of(config, fields, dims, storage) for dims in (every**0, every))
    of_dim = (wide.network - narrow.network) / max(fields.num_fields * (config.latent_dim - 1), 1)
    names = (*layout.REQUIRED, *layout.OPTIONAL)
    of_run = _TOLD if told is None else _TOLD_LATER
    if dims is None:  # The module reads an array for each width.
        cycled = np.arange(fields.num_fields) % config.latent_dim + 1
        dims = cycled if config.searches_dims else every
    plain = _Plain.of(config, fields, dims, storage)
    fixed: float = plain.folder(told) + of_run + _TOLD_OF_FIELD * fields.num_fields
    fixed += len(encoder.description.as_json()) - of_dim * int(dims.sum())
    fixed += len(layout.format_sums(dict.fromkeys(names, b"")))
    of_linear = _BYTES[Storage.uniform(storage, 1).linear] if config.has_linear_term else 0.0
    of_scale = _SCALE if bits is not None and not is_by_field(storage) else 0
    # A row's codes end with a byte.
    widths = range(1 if config.searches_dims else config.latent_dim, config.latent_dim + 1)
    of_end = 0.0 if bits is None else max(packed_bytes(w, bits) - w * bits / 8 for w in widths)
    of_row = np.full(fields.num_fields, of_scale + of_linear + of_end)
    sizes = np.array(fields.sizes, np.int64)
    values = Values(encoder, of_values) if own_ids else None
    if values is not None:
        # In place: `values` has them too.
        looked_up = sizes * [column.step[:1] == ("lookup",) for column in encoder.columns]
        of_values += (
            (_table_bytes(encoder) - values.tables) * (looked_up > 0) / max(int(looked_up.sum()), 1)
        )
        of_row += of_values
        fixed += values.header + values.tables
    else:
        fixed += _table_bytes(encoder)
        fixed += len(write_values(encoder.vocabulary.lookup))
        if config.prunes_rows:
            fixed += int(np.where(sizes < 2**8, 1, np.where(sizes < 2**16, 2, 4)) @ sizes)
        if config.has_linear_term and config.mode_linear == "keep":
            fixed, of_row = fixed + of_linear * int(sizes.sum()), of_row - of_linear
    of_number = _BYTES[storage] if bits is None else bits / 8
    vectors = 1 if config.prunes_rows and config.mode_oov == "oov" else 0
    if config.prunes_rows and config.mode_oov == "zero":  # A row of zeros in each field.
        fixed += float((of_row + config.latent_dim * of_number).sum())
    return BundleCost(int(np.ceil(fixed)), of_row, of_number, max(of_dim, 0.0), values, vectors)


@dataclasses.dataclass(frozen=True)
class _Plain:
    """A drawn model as it is stored, with few rows for each field, of some columns each."""

    config: ModelConfig
    fields: Fields
    index: CompactIndex
    stored: StoredModel

    @classmethod
    def of(cls, config: ModelConfig, fields: Fields, dims: np.ndarray, storage: str) -> "_Plain":
        # Numbers of rows stand in module, manifest and card, and seldom two are the same.
        most = _FEW_ROWS + np.arange(fields.num_fields)
        few = dataclasses.replace(fields, sizes=tuple(np.minimum(fields.sizes, most).tolist()))
        # Of shapes alone: what is compiled to draw numbers takes some seconds.
        shapes = jax.eval_shape(lambda: init_params(jax.random.key(0), config, few))
        rng = np.random.default_rng(0)
        params, batch_stats = jax.tree.map(
            lambda leaf: rng.uniform(0.01, 0.03, leaf.shape).astype(leaf.dtype), shapes
        )
        small, index = compact(config, params, few, None, dims.astype(np.int32))
        index = dataclasses.replace(index, bags=bags_of(few, config.pooling))
        kernels = kernels_of(served_network(small, batch_stats))
        in_bits = Storage.uniform(storage, few.num_fields, kernels)
        return cls(config, few, index, store(small, batch_stats, index, in_bits))

    @property
    def network(self) -> int:
        """Bytes of the network's arrays."""
        return sum(array.nbytes for array in self.stored.network.values())

    def folder(self, told: Provenance | None) -> int:
        """Bytes of the files but for the vocabulary's, and without the rows."""
        nothing = [0.1234] * self.fields.num_fields
        told = told or Provenance(worth=dict.fromkeys(("auc", "logloss", "unseen"), nothing))
        rows = self.fields.num_features
        files = content_of(self.config, self.stored, self.index, self.fields, told, rows, PLATFORMS)
        of_rows = sum(
            array.nbytes
            for name, array in tensors_of(self.stored, self.index).items()
            if name.split("/")[0] in ("rows", "scale", "linear")
        )
        return sum(map(len, files.values())) - of_rows


def _table_bytes(encoder: Encoder) -> int:
    return 0 if encoder.tables_file is None else len(encoder.tables_file)


def _value_bytes(encoder: Encoder) -> np.ndarray:
    """Bytes of a value of each field in the vocabulary's file, float64 ``[F]``."""
    lookup = encoder.vocabulary.lookup
    found = np.zeros(len(lookup.sizes))
    for field, bins in enumerate(lookup.bins):
        texts = lookup.field_texts(field)
        if bins is not None or not len(texts):
            continue
        begin, end = int(texts.starts[0]), int(texts.starts[-1])
        width = np.uint8 if int(texts.lengths.max()) < 2**8 else np.uint16
        parts = texts.data[begin:end].tobytes(), texts.lengths.astype(width).tobytes()
        found[field] = sum(len(zlib.compress(part)) for part in parts) / len(texts)
    return found
