"""Text of Criteo's shape, made up: Zipf-distributed values, missing cells, a label that depends.

python -m experiments.benchmarks.criteo_text --rows=5000000 --output=FILE

The sizes of the 26 categorical columns are of the order of the real ones (from 3 to ten million
values); each value is an 8-digit hexadecimal number without meaning. No row is a real one.
"""

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
from absl import flags

from experiments.run import cli

_CHUNK = 500_000
_INTEGER_MISSING = (0.45, 0.0, 0.21, 0.21, 0.03, 0.22, 0.04, 0.0, 0.04, 0.45, 0.04, 0.76, 0.21)
_SIZES = (
    *(1_460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5_683, 8_351_593, 3_194),
    *(27, 14_992, 5_461_306, 10, 5_652, 2_173, 4, 7_046_547, 18, 15, 286_181, 105, 142_572),
)
_CATEGORY_MISSING = {2: 0.03, 3: 0.03, 5: 0.12, 11: 0.03, 18: 0.44, 19: 0.44, 21: 0.76, 24: 0.44}


def write_text(path: pathlib.Path, rows: int, seed: int = 0, *, header: bool = False) -> None:
    """Writes a file of this many rows; the same seed gives the same file.

    As Criteo's, of tabs and without a header; or with one, and commas.
    """
    delimiter = "," if header else "\t"
    options = csv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="none")
    with path.open("wb") as stream:
        if header:
            stream.write(
                (",".join(_rows(np.random.default_rng(0), 1).column_names) + "\n").encode()
            )
        for chunk, start in enumerate(range(0, rows, _CHUNK)):
            rng = np.random.default_rng([seed, chunk])
            csv.write_csv(_rows(rng, min(_CHUNK, rows - start)), stream, options)


def _rows(rng: np.random.Generator, rows: int) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    logits = np.full(rows, -1.2)
    for number, missing in enumerate(_INTEGER_MISSING):
        spread = 0.5 + 0.5 * (number % 5)
        values = np.floor(np.exp(rng.normal(1.0 + spread, spread, rows))).astype(np.int64)
        values -= 2 if number == 1 else 0  # the real column I2 has negative values
        logits += 0.1 * np.log1p(np.abs(values)) * (-1) ** number
        columns[f"I{number + 1}"] = pa.array(values, mask=rng.random(rows) < missing)
    for number, size in enumerate(_SIZES):
        value = _zipf(rng, rows, size)
        logits += 0.4 * np.sin(value % 97 + number)
        mask = rng.random(rows) < _CATEGORY_MISSING.get(number, 0.0)
        text = _hexadecimal(value * 2_654_435_761 + number * 40_503)
        columns[f"C{number + 1}"] = pc.if_else(pa.array(mask), pa.scalar(None, pa.string()), text)
    label = rng.random(rows) < 1.0 / (1.0 + np.exp(-logits))
    return pa.table({"label": pa.array(label.astype(np.int8))} | columns)


def _zipf(rng: np.random.Generator, rows: int, size: int) -> np.ndarray:
    """Ranks from 0 whose frequency falls about as 1 / rank, int64 ``[rows]``."""
    # The inverse of the distribution function of a density proportional to 1 / x on [1, size + 1).
    return np.minimum(np.exp(rng.random(rows) * np.log(size + 1.0)) - 1.0, size - 1).astype(
        np.int64
    )


def _hexadecimal(values: np.ndarray) -> pa.Array:
    digits = (values & 0xFFFFFFFF).astype(">u4").tobytes().hex().encode()
    offsets = np.arange(len(values) + 1, dtype=np.int32) * 8
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(digits)]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def main() -> None:
    """Writes the file that the flags name."""
    write_text(pathlib.Path(flags.FLAGS.output), flags.FLAGS.rows, flags.FLAGS.seed)


if __name__ == "__main__":
    # Here, because benchmarks that import this module have flags of their own.
    flags.DEFINE_integer("rows", 5_000_000, "Rows to make.", lower_bound=1)
    flags.DEFINE_string("output", None, "The file to write.", required=True)
    flags.DEFINE_integer("seed", 0, "Seed of the text.")
    cli.run(main, goes_on=False)
