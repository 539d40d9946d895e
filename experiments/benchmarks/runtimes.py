"""A bundle beside what it is written as for other runtimes: onnxruntime, PyTorch, FBGEMM's lookup.

The same model of random weights, with a vocabulary of its own ids, scored from ids and from raw
columns in batches of several sizes. What is not installed is left out.
"""

import pathlib
import tempfile
from typing import Any

import jax
import numpy as np

from experiments.benchmarks import runtime_turns
from experiments.benchmarks.click_log import fields_of
from experiments.benchmarks.kept_shape import DIM, drawn_kept
from experiments.benchmarks.runtime_turns import Request
from optembed_jax.data.encoder import Encoder
from optembed_jax.data.formats.registry import DATASETS
from optembed_jax.data.vocabulary import Vocabulary
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_writer import write_bundle
from optembed_jax.serving.compact_model import compact
from optembed_jax.serving.network_storage import kernels_of
from optembed_jax.serving.stored_model import Storage, served_network
from optembed_jax.table.compact import with_own_ids
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
        bundle = _bundle(folder / runtime_turns.BUNDLE, model, rows, keep, columns, storage, rng)
        requests = []
        for batch in BATCHES:
            ids = _drawn(bundle.fields, batch, rng)
            requests.append(Request(ids, _raw(ids, bundle.fields)))
        times = runtime_turns.take(folder, requests, repeats)
    found: dict[str, Any] = {"model": model, "rows": rows, "storage": storage}
    return found | {name: round(value, 3) for name, value in times.items()}


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
    mask, dims = drawn_kept(fields, keep, columns, rng, stand_ins=True)
    small, index = compact(config, params, fields, mask, dims)
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
