"""A bundle beside what it is written as for other runtimes: onnxruntime, PyTorch, FBGEMM's lookup.

The same model of random weights, with a vocabulary of its own ids, scored from ids and from raw
columns in batches of several sizes; all runtimes take turns in one process. What is not installed
is left out.
"""

import importlib.util
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.click_log import fields_of
from experiments.benchmarks.kept_shape import DIM, drawn_dims
from experiments.run.alternating import alternate
from optembed_jax.data.encoder import Encoder
from optembed_jax.data.formats.registry import DATASETS
from optembed_jax.data.vocabulary import Vocabulary
from optembed_jax.fields import Fields
from optembed_jax.models.forward import init_params
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_writer import write_bundle
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.forward_module import model_of
from optembed_jax.serving.network_storage import kernels_of
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.serving.stored_model import Storage, served_network
from optembed_jax.table.compact import lookup, with_own_ids
from optembed_jax.values.lookup import lookup_of
from optembed_jax.values.rule import Rule
from optembed_jax.values.table import texts_of
from optembed_jax.values.unseen import Expected

BATCHES = (1, 64, 2048)


def measure(
    model: str, rows: int, keep: float, columns: float, storage: str, repeats: int
) -> dict[str, Any]:
    """Milliseconds of each runtime, by what it reads and how many rows.

    Args:
      model: the backbone.
      rows: of the full table, ``V``.
      keep: share of them that is kept.
      columns: share of the columns.
      storage: of rows, linear weights and kernels.
      repeats: timed turns of each.
    """
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        bundle = _bundle(folder / "bundle", model, rows, keep, columns, storage, rng)
        runtimes = _runtimes(bundle, folder)
        found: dict[str, Any] = {"model": model, "rows": rows, "storage": storage}
        for batch in BATCHES:
            ids = _drawn(bundle.fields, batch, rng)
            raw = _raw(ids, bundle.fields)
            functions = {name: make(ids, raw) for name, make in runtimes.items()}
            times = alternate(functions, repeats)
            found |= {f"{name}_{batch}_ms": round(value, 3) for name, value in times.items()}
    return found


def headline(found: list[dict[str, Any]]) -> dict[str, float]:
    """Ours over others': the worst of all storages; nothing where the other is not installed."""
    ratios = {
        "lookup_over_fbgemm": ("lookup_2048_ms", "fbgemm_lookup_2048_ms"),
        "ids_one_row_over_onnx": ("ids_1_ms", "onnx_ids_1_ms"),
        "ids_64_rows_over_onnx": ("ids_64_ms", "onnx_ids_64_ms"),
        "one_row_over_onnx": ("raw_1_ms", "onnx_raw_1_ms"),
    }
    return {
        name: max(round(figures[ours] / figures[other], 3) for figures in found)
        for name, (ours, other) in ratios.items()
        if all(other in figures for figures in found)
    }


Runtime = Callable[[np.ndarray, dict[str, list[str]]], Callable[[], Any]]


def _runtimes(bundle: Bundle, folder: pathlib.Path) -> dict[str, Runtime]:
    """Of each runtime, what makes of ids and raw columns the call that is timed."""
    plain = NumpyBundle.load(bundle.path)
    fields = bundle.manifest["fields"]
    params, _, index = model_of(dict(bundle.weights), fields, bundle.manifest["linear_by_id"])
    own_lookup = jax.jit(lookup)
    found: dict[str, Runtime] = {
        "ids": lambda ids, raw: lambda: bundle.logits(ids),
        "raw": lambda ids, raw: lambda: bundle.logits(raw),
        "numpy_ids": lambda ids, raw: lambda: plain.logits(ids),
        "numpy_raw": lambda ids, raw: lambda: plain.logits(raw),
        "lookup": lambda ids, raw: lambda: own_lookup(params.table, index, ids),
    }
    if importlib.util.find_spec("onnxruntime") is not None:
        found |= _onnx(bundle, folder)
    if importlib.util.find_spec("torch") is not None:
        found |= _torch(bundle, folder)
    return found


def _onnx(bundle: Bundle, folder: pathlib.Path) -> dict[str, Runtime]:
    import onnxruntime

    from optembed_jax.targets import onnx_file

    sessions = {}
    for takes_ids in (True, False):
        onnx_file.write(bundle, folder / "model.onnx", takes_ids)
        sessions[takes_ids] = onnxruntime.InferenceSession(
            folder / "model.onnx", providers=["CPUExecutionProvider"]
        )

    def of_ids(ids: np.ndarray, raw: dict[str, list[str]]) -> Callable[[], Any]:
        feed = {"ids": ids.astype(np.int64)}
        return lambda: sessions[True].run(["logit"], feed)

    def of_raw(ids: np.ndarray, raw: dict[str, list[str]]) -> Callable[[], Any]:
        # From the lists that a server has: making arrays of them is part of a request.
        return lambda: sessions[False].run(
            ["logit"], {name: np.array(values, object) for name, values in raw.items()}
        )

    return {"onnx_ids": of_ids, "onnx_raw": of_raw}


def _torch(bundle: Bundle, folder: pathlib.Path) -> dict[str, Runtime]:
    import torch

    from optembed_jax.targets import torch_folder

    torch_folder.write(bundle, folder / "torch", takes_ids=True)
    written = torch_folder.imported(folder / "torch" / torch_folder.MODULE)
    model = written.load(folder / "torch")

    def of_ids(ids: np.ndarray, raw: dict[str, list[str]]) -> Callable[[], Any]:
        given = torch.from_numpy(ids.astype(np.int64))

        def call() -> Any:
            with torch.no_grad():
                return model(given).numpy()

        return call

    found: dict[str, Runtime] = {"torch_ids": of_ids}
    if importlib.util.find_spec("fbgemm_gpu") is None:
        return found
    tables = written.fbgemm_tables(folder / "torch")

    def fbgemm(ids: np.ndarray, raw: dict[str, list[str]]) -> Callable[[], Any]:
        local = (ids - bundle.fields.offsets).T.astype(np.int32)
        indices = torch.from_numpy(np.ascontiguousarray(local.reshape(-1)))
        offsets = torch.arange(local.size + 1, dtype=torch.int32)
        return lambda: tables(indices, offsets).numpy()

    return found | {"fbgemm_lookup": fbgemm}


def _bundle(
    path: pathlib.Path,
    model: str,
    rows: int,
    keep: float,
    columns: float,
    storage: str,
    rng: np.random.Generator,
) -> Bundle:
    fields = fields_of(rows)
    config = ModelConfig(model=model, latent_dim=DIM, mode_oov="shared", mode_linear="prune")
    params, stats = init_params(jax.random.key(0), config, fields)
    mask = rng.random(rows) < keep
    mask[fields.oov_ids] = True
    small, index = compact(config, params, fields, mask, drawn_dims(columns, rng))
    own, kept, _ = with_own_ids(index, fields.names)
    kernels = kernels_of(served_network(small, stats))
    return write_bundle(
        path,
        config,
        small,
        stats,
        own,
        kept,
        storage=Storage.uniform(storage, kept.num_fields, kernels),
        encoder=_encoder(kept),
        full_rows=rows,
    )


def _encoder(fields: Fields) -> Encoder:
    """A vocabulary of texts of eight digits, as hashed values are."""
    texts = [
        texts_of([_text(field, number) for number in range(1, size)])
        for field, size in enumerate(fields.sizes)
    ]
    values = lookup_of(texts, fields.sizes, [Rule()] * fields.num_fields)
    options = {"categorical": list(fields.names), "numeric": []}
    return Encoder(
        dataset="table",
        options=options,
        facts={},
        columns=DATASETS["table"].columns_of(options, {}),
        vocabulary=Vocabulary(fields.names, values),
        expected=Expected(fields.names, np.zeros(fields.num_fields), 1),
    )


def _text(field: int, number: int) -> str:
    return f"{(number * 2654435761 + field) % 2**32:08x}"


def _drawn(fields: Fields, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Ids int32 ``[batch, F]`` of values with rows, even over each field."""
    local = rng.integers(1, np.array(fields.sizes), (batch, fields.num_fields))
    return (local + fields.offsets).astype(np.int32)


def _raw(ids: np.ndarray, fields: Fields) -> dict[str, list[str]]:
    local = ids - fields.offsets
    return {
        name: [_text(field, number) for number in local[:, field].tolist()]
        for field, name in enumerate(fields.names)
    }
