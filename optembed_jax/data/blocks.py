"""Records of about a thousand rows each, in ArrayRecord files.

A record is the tf.train.Example of `features`, which tensorflow-datasets writes and reads without
TensorFlow. One row per record would be read a hundred times more slowly.
"""

import functools
import pathlib
import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.proto import tf_example_pb2

from optembed_jax.errors import InputError

BLOCK_ROWS = 1024

# Rows are int32 ids; compressing them makes reading three times and writing four times slower.
_WRITER_OPTIONS = "group_size:1,uncompressed"
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"


@functools.cache
def features(
    num_columns: int, grouped: bool = False, weighted: bool = False
) -> tfds.features.FeaturesDict:
    """What one record holds: `ids` int32 ``[rows, S]`` and `labels` uint8 ``[rows]``.

    Where values have weights `ids` are ``[rows, S + W]`` (`fields.Fields`). And `groups` int64
    ``[rows]`` where rows are grouped, `weights` float32 ``[rows]`` where some count more than
    others.
    """
    tensor = functools.partial(tfds.features.Tensor, encoding="bytes")
    held = {
        "ids": tensor(shape=(None, num_columns), dtype=np.int32),
        "labels": tensor(shape=(None,), dtype=np.uint8),
    }
    if grouped:
        held["groups"] = tensor(shape=(None,), dtype=np.int64)
    if weighted:
        held["weights"] = tensor(shape=(None,), dtype=np.float32)
    return tfds.features.FeaturesDict(held)


def num_blocks(rows: int) -> int:
    """Records in a shard of this many rows: all but the last hold `BLOCK_ROWS`."""
    return -(-rows // BLOCK_ROWS)


class Part(NamedTuple):
    """Some rows.

    Attributes:
      ids: int32 ``[rows, S]``.
      labels: uint8 ``[rows]``.
      groups: int64 ``[rows]``, if any.
      weights: float32 ``[rows]``, if any.
    """

    ids: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None
    weights: np.ndarray | None = None


def write_shard(path: pathlib.Path, parts: Iterable[Part]) -> int:
    """Writes each part as a record; returns their number.

    Raises:
      OSError: the file could not be written completely.
    """
    written = 0
    try:
        writer = array_record_module.ArrayRecordWriter(str(path), _WRITER_OPTIONS)
        try:
            for part in parts:
                writer.write(_serialize(part))
                written += 1
        finally:
            writer.close()
    except RuntimeError as error:  # what array_record raises when the disk is full
        raise OSError(f"{path} could not be written: {error}") from error
    reader = array_record_module.ArrayRecordReader(str(path), _READER_OPTIONS)
    found = reader.num_records()
    reader.close()
    if found != written:
        raise OSError(f"{path}: {found} of {written} records were written")
    return written


def _serialize(part: Part) -> bytes:
    # Written out instead of `features(S).serialize_example`, which takes three times as long.
    example = tf_example_pb2.Example()
    feature = example.features.feature
    for name, values in part._asdict().items():
        if values is not None:
            feature[name].bytes_list.value.append(values.tobytes())
    # Otherwise the order of the features, and with it every checksum, differs by process.
    return bytes(example.SerializeToString(deterministic=True))


def _parse(record: bytes, num_columns: int) -> Part:
    feature = tf_example_pb2.Example.FromString(record).features.feature
    ids = np.frombuffer(feature["ids"].bytes_list.value[0], np.int32)
    labels = np.frombuffer(feature["labels"].bytes_list.value[0], np.uint8)
    beside = {
        name: np.frombuffer(feature[name].bytes_list.value[0], kind)
        for name, kind in (("groups", np.int64), ("weights", np.float32))
        if name in feature
    }
    return Part(ids.reshape(len(labels), num_columns), labels, **beside)


def weights_of(part: Part) -> np.ndarray:
    """How much the rows of a part count, where some count more than others.

    Raises:
      InputError: it holds no weights.
    """
    if part.weights is None:
        raise InputError("rows of weighted data have no weights; prepare the data again")
    return part.weights


class ShardReader:
    """Random access to the records of one shard.

    Attributes:
      path: the shard.
    """

    def __init__(self, path: pathlib.Path, num_columns: int) -> None:
        self.path = path
        self._num_columns = num_columns
        self._reader = array_record_module.ArrayRecordReader(str(path), _READER_OPTIONS)
        self._lock = threading.Lock()

    def read(self, numbers: Sequence[int]) -> list[Part]:
        """Some records.

        Raises:
          InputError: the file changed or was damaged since it was verified.
        """
        try:
            with self._lock:
                records = self._reader.read(list(numbers))
            return [_parse(record, self._num_columns) for record in records]
        except Exception as error:
            raise InputError(f"{self.path} cannot be read: {error}") from error
