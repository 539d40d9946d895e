"""A bundle's scores of real rows beside those of every runtime that it is written for."""

import dataclasses
import importlib.util
import itertools
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

# Before Keras is imported: it chooses by then.
os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import numpy as np
import pyarrow as pa

from experiments.run.exported import with_kept_vocabulary
from optembed_jax import data
from optembed_jax.data.prepared import PreparedData, encoder_of
from optembed_jax.method.bag import bags_of
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_content import read_content
from optembed_jax.serving.bundle_writer import write_bundle
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.network_storage import kernels_of
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.serving.stored_model import Storage, served_network
from optembed_jax.serving.stored_rows import numbers, stored_rows
from optembed_jax.targets import interop
from optembed_jax.values.cells import MARK
from optembed_jax.values.text import text_of

ROWS = 2048
ROWS_ONE_BY_ONE = 64
STORAGES = ("float32", "float16", "bfloat16", "int8", "int6", "int4", "int3_field", "int2")
MODES: dict[str, dict[str, Any]] = {
    "one stand-in": {"mode_oov": "shared", "mode_linear": "prune"},
    "learned vector": {"mode_oov": "oov", "mode_linear": "keep"},
    "zeros": {"mode_oov": "zero", "mode_linear": "prune"},
    "nothing pruned": {"mode": "none"},
}
UNSEEN_TEXT, UNSEEN_NUMBER = "never seen", 1_900_000_001
_SHARE = 0.05  # of the cells that get another value, and of those that lose theirs

Columns = dict[str, list[Any]]
Differences = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Real rows of a data set.

    Attributes:
      prepared: the data set, as the commands prepare it by default.
      columns: raw columns, of ``ROWS`` rows.
    """

    prepared: PreparedData
    columns: Columns


def rows_of(name: str, folder: pathlib.Path, raw_dir: str | None) -> Rows:
    """The first rows of a data set's files, with some cells emptied and some of other values."""
    options = data.DataOptions(raw_dir=raw_dir)
    prepared = data.prepare(name, options, folder)
    source = data.DATASETS[name].raw_data(options).source
    block = next(iter(source.blocks()))
    table = pa.table(dict(source.read(block).columns)).slice(0, ROWS)
    encoder = encoder_of(prepared)
    rng = np.random.default_rng(0)
    columns: Columns = {}
    # A moment has to be there: preparation refuses a row without one.
    needed = {
        field["source"]
        for field in encoder.description.fields
        if (field.get("step") or ["lookup"])[0] != "lookup"
    }
    for column in dict.fromkeys(field["source"] for field in encoder.description.fields):
        values = [_plain(value) for value in table[column].to_pylist()]
        draws = rng.random(len(values))
        for row in np.flatnonzero((draws < 2 * _SHARE) & (column not in needed)).tolist():
            other = UNSEEN_TEXT if isinstance(values[row], str) else UNSEEN_NUMBER
            values[row] = None if draws[row] < _SHARE else other
        columns[column] = values
    return Rows(prepared, columns)


def _plain(value: Any) -> Any:
    return value.split(MARK)[1:] if isinstance(value, str) and value.startswith(MARK) else value


def bundle_of(rows: Rows, path: pathlib.Path, backbone: str, storage: str, mode: str) -> Bundle:
    """A bundle of random weights; half of the rows and some columns are pruned where any are."""
    options = MODES[mode]
    config = ModelConfig(model=backbone, latent_dim=8, mlp_dims=(16, 8), **options)
    encoder, fields = encoder_of(rows.prepared), rows.prepared.fields
    rng = np.random.default_rng(3)
    params, stats = init_params(jax.random.key(0), config, fields)
    params = jax.tree.map(lambda x: x + rng.normal(0, 0.2, x.shape).astype(np.float32), params)
    kept = dims = None
    if "mode" not in options:
        kept = rng.random(fields.num_features) < 0.5
        kept[fields.oov_ids] = True
        dims = rng.integers(1, 9, fields.num_fields)
    small, index = compact(config, params, fields, kept, dims)
    fields = dataclasses.replace(fields, slots=encoder.slots)
    index = dataclasses.replace(index, bags=bags_of(fields, config.pooling))
    if mode == "one stand-in":
        index, fields, encoder, _ = with_kept_vocabulary(
            index, rows.prepared.fields, encoder, rows.prepared.counts, 1
        )
    kernels = kernels_of(served_network(small, stats))
    chosen = Storage.uniform(storage, fields.num_fields, kernels)
    return write_bundle(path, config, small, stats, index, fields, storage=chosen, encoder=encoder)


def differences(rows: Rows, bundle: Bundle, folder: pathlib.Path) -> Differences:
    """The largest difference in a probability by runtime; of tables, in a number of a row."""
    columns = rows.columns
    expected = bundle.predict(columns)
    ids = bundle.encode(columns)
    plain = NumpyBundle.load(bundle.path)
    one_by_one = [
        plain.predict({n: v[r : r + 1] for n, v in columns.items()})[0]
        for r in range(ROWS_ONE_BY_ONE)
    ]
    found = {
        "ids": _worst(bundle.predict(ids), expected),
        "numpy": _worst(plain.predict(columns), expected),
        "numpy_row": _worst(np.array(one_by_one), expected[:ROWS_ONE_BY_ONE]),
    }
    for library, compare in LIBRARIES.items():
        if importlib.util.find_spec(library) is not None:
            found |= compare(bundle, columns, ids, expected, folder)
    return found


def _worst(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(np.max(np.abs(found - expected), initial=0))


def _onnx(
    bundle: Bundle, columns: Columns, ids: np.ndarray, expected: np.ndarray, folder: pathlib.Path
) -> Differences:
    import onnxruntime

    from optembed_jax.targets import onnx_file

    found = {}
    texts = {name: [_text(value) for value in values] for name, values in columns.items()}
    feeds = {
        "onnx_ids": {"ids": ids.astype(np.int64)},
        "onnx": onnx_file.fed(texts, bundle.encoder.description),
    }
    for name, feed in feeds.items():
        onnx_file.write(bundle, folder / "model.onnx", takes_ids=name == "onnx_ids")
        session = onnxruntime.InferenceSession(
            folder / "model.onnx", providers=["CPUExecutionProvider"]
        )
        found[name] = _worst(session.run(["probability"], feed)[0], expected)
    return found


def _text(value: Any) -> Any:
    return value if isinstance(value, list) else text_of(value)


def _torch(
    bundle: Bundle, columns: Columns, ids: np.ndarray, expected: np.ndarray, folder: pathlib.Path
) -> Differences:
    import torch

    from optembed_jax.targets import torch_folder

    del columns
    torch_folder.write(bundle, folder / "torch", takes_ids=True)
    written = torch_folder.imported(folder / "torch" / torch_folder.MODULE)
    model = written.load(folder / "torch")
    found = {"torch": _worst(model.predict(torch.from_numpy(ids)).numpy(), expected)}
    if importlib.util.find_spec("fbgemm_gpu") is not None and any(
        field["dim"] for field in bundle.manifest["fields"]
    ):
        found["fbgemm_rows"] = _fbgemm(bundle, ids, folder / "torch", written)
    return found


def _fbgemm(bundle: Bundle, ids: np.ndarray, folder: pathlib.Path, written: Any) -> float:
    """FBGEMM's rows of single values, beside the numbers of the bundle's file."""
    import torch

    places = interop.positions(bundle.fields, interop.index_of(bundle), ids)
    cells = np.split(ids, np.cumsum(bundle.fields.slots)[:-1], axis=1)
    stored = stored_rows(read_content(bundle.path))
    with_columns = sorted(places)
    first = [cells[field][:, 0] - bundle.fields.offsets[field] for field in with_columns]
    sizes = [bundle.fields.sizes[field] for field in with_columns]
    local = np.stack([np.where(v < size, v, 0) for v, size in zip(first, sizes, strict=True)])
    found = written.fbgemm_tables(folder)(
        torch.from_numpy(local.reshape(-1).astype(np.int32)),
        torch.arange(local.size + 1, dtype=torch.int32),
    ).numpy()
    tables = json.loads((folder / "model.json").read_text(encoding="utf-8"))["fbgemm"]
    padded = {table["field"]: table["padded_dim"] for table in tables}
    begin, worst = 0, 0.0
    for number, field in enumerate(with_columns):
        own = numbers(stored, field)
        remap = interop.index_of(bundle).remap[field]
        at = local[number] if remap is None else np.asarray(remap)[local[number]]
        worst = max(worst, _worst(found[:, begin : begin + own.shape[1]], own[at]))
        begin += padded[field]
    return worst


def _keras(
    bundle: Bundle, columns: Columns, ids: np.ndarray, expected: np.ndarray, folder: pathlib.Path
) -> Differences:
    """Rows of keras-rs' tables of the fields of one value, beside the numbers of the file."""
    import keras_rs

    del columns, expected, folder
    index, fields = interop.index_of(bundle), bundle.fields
    specs = interop.keras_rs(fields, index, len(ids))
    places = interop.positions(fields, index, ids)
    tables = [t for t in interop.field_tables(fields, index) if t.slots == 1]
    if not tables:
        return {}
    features = {}
    for table in tables:
        of_table, of_feature = specs[table.name]
        features[table.name] = keras_rs.layers.FeatureConfig(
            **of_feature, table=keras_rs.layers.TableConfig(**of_table)
        )
    layer = keras_rs.layers.DistributedEmbedding(features)
    inputs = {table.name: places[table.field][:, None] for table in tables}
    layer.build({name: value.shape for name, value in inputs.items()})
    values = interop.bundle_values(bundle)
    layer.set_embedding_tables({table.name: values[table.name] for table in tables})
    outputs = layer(inputs)
    stored = stored_rows(read_content(bundle.path))
    worst = [
        _worst(np.asarray(outputs[t.name]), numbers(stored, t.field)[places[t.field]])
        for t in tables
    ]
    return {"keras_rows": max(worst)}


Compare = Callable[[Bundle, Columns, np.ndarray, np.ndarray, pathlib.Path], Differences]
LIBRARIES: dict[str, Compare] = {"onnxruntime": _onnx, "torch": _torch, "keras_rs": _keras}


def cases(models: list[str], every: bool) -> list[tuple[str, str, str]]:
    """Backbone, storage and mode: each pair of the first with one of the others, or all three."""
    if every:
        return list(itertools.product(models, STORAGES, MODES))
    modes = list(MODES)
    found = [
        (model, storage, modes[(m + n) % len(modes)])
        for m, model in enumerate(models)
        for n, storage in enumerate(STORAGES)
    ]
    assert {(model, mode) for model, _, mode in found} == set(itertools.product(models, modes))
    return found
