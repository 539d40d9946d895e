"""Writing a bundle: into a folder beside the target, loaded again, compared, and then renamed."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from optembed_jax.data.encoder import Encoder
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.forward import Params
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving import bundle_content, model_card
from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_format import BundleError
from optembed_jax.serving.compact_model import fold_for_serving
from optembed_jax.serving.forward_module import export_forward, weights_of
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.storage.versions import versions
from optembed_jax.table.compact import CompactIndex, CompactTable

TOLERANCE = 1e-5
"""Largest difference in a logit that a written bundle may have from the live model, relative to
the larger of 1 and the logit."""


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a model comes from; all of it is optional, and goes into manifest and model card.

    Attributes:
      dataset: name and fingerprint of the data set, and the like.
      metrics: such as ``test_auc``.
      flags: that the model was trained with.
    """

    dataset: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def write_bundle(
    path: str | os.PathLike[str],
    config: ModelConfig,
    params: Params,
    batch_stats: Any,
    index: CompactIndex,
    fields: Fields,
    *,
    encoder: Encoder | None = None,
    provenance: Provenance | None = None,
    check: tuple[np.ndarray, np.ndarray] | None = None,
) -> "Bundle":
    """Write a compact model, load it again, compare, and only then give it its name.

    Args:
      path: the folder to make; a bundle that is there is replaced, anything else is refused.
      config: the model.
      params: compact parameters, in any storage (see :func:`compact.quantize_table`).
      batch_stats: its running batch statistics.
      index: of the compact table.
      fields: the data set's fields.
      encoder: for raw columns; None makes a bundle that takes ids only.
      provenance: where the model comes from.
      check: ids int32 ``[N, F]`` and the live model's logits ``[N]``, which the loaded bundle has
        to give within ``TOLERANCE``.

    Returns:
      The bundle, loaded from what was written.

    Raises:
      InputError: something else is at the path, or it cannot be written.
      BundleError: what was written does not give the live model's logits.
    """
    target = pathlib.Path(path).expanduser().absolute()
    if target.exists() and not (target / layout.SUMS).is_file():
        raise InputError(f"{target} exists and is no bundle; choose another --bundle or remove it")
    files = _content(config, params, batch_stats, index, fields, provenance or Provenance())
    with _folder_beside(target) as folder:
        if encoder is not None:
            encoder.write(folder / layout.ENCODER, folder / layout.VOCABULARY)
            for name in (layout.ENCODER, layout.VOCABULARY):
                files[name] = (folder / name).read_bytes()
        manifest = json.loads(files[layout.MANIFEST])
        manifest["files"] = sorted(set(files) - {layout.MANIFEST})
        manifest["bytes"]["disk"] = bundle_content.disk_bytes(files)
        files[layout.CARD] = model_card.render(manifest).encode()
        files[layout.MANIFEST] = (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / layout.SUMS).write_bytes(layout.format_sums(files))
        loaded = Bundle.load(folder)
        _compare(loaded, check)
        if encoder is not None and loaded.encoder.vocabulary.layout != fields:
            raise BundleError("the vocabulary that was written has other fields than the model")
    loaded.path = target
    return loaded


def _content(
    config: ModelConfig,
    params: Params,
    batch_stats: Any,
    index: CompactIndex,
    fields: Fields,
    provenance: Provenance,
) -> dict[str, bytes]:
    """The files that need no folder, and a manifest still without the list of files."""
    if not isinstance(params.table, CompactTable):
        raise InputError("a bundle holds a compact model; call compact_model.compact first")
    params = fold_for_serving(params)
    weights = weights_of(params, batch_stats, index)
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise InputError(f"{name} holds values that are not finite; such a model serves nobody")
    described = _describe_fields(fields, index, weights)
    serialised = safetensors.numpy.save(weights)
    manifest = {
        "format": layout.FORMAT,
        "format_version": layout.FORMAT_VERSION,
        "model": dataclasses.asdict(config),
        "storage": _storage_of(params.table),
        "fields": described,
        "prunes_linear": index.prunes_linear,
        "tensors": layout.describe_tensors(serialised),
        "bytes": bundle_content.count_bytes(described, weights, config.latent_dim),
        "dataset": dict(provenance.dataset),
        "metrics": dict(provenance.metrics),
        "flags": dict(provenance.flags),
        "versions": versions("jax", "flax", "numpy", "safetensors"),
    }
    # By formulas and a library of their own, and in float32 wherever it runs.
    ids = bundle_content.draw_samples(described)
    logits = NumpyBundle(pathlib.Path(), manifest, weights).logits(ids)
    manifest["samples"] = {"ids": ids.tolist(), "logits": logits.tolist()}
    return {
        layout.MANIFEST: json.dumps(manifest).encode(),
        layout.WEIGHTS: serialised,
        layout.FORWARD: export_forward(config, weights, described, index.prunes_linear),
        layout.CARD: b"",
    }


def _describe_fields(
    fields: Fields, index: CompactIndex, weights: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    described = []
    for number, (name, rows) in enumerate(zip(fields.names, fields.sizes, strict=True)):
        stored = weights.get(f"rows/{number}")
        kept = index.kept[number]
        described.append(
            {
                "name": name,
                "rows": rows,
                "rows_kept": kept,
                "dim": index.dims[number],
                "has_oov_row": stored is not None and len(stored) > kept,
            }
        )
    return described


def _storage_of(table: CompactTable) -> str:
    types = {str(getattr(rows, "dtype", jnp.int8.dtype)) for rows in table.rows}
    return types.pop() if types else "float32"


def _compare(bundle: Bundle, check: tuple[np.ndarray, np.ndarray] | None) -> None:
    if check is None:
        return
    ids, expected = check
    found = bundle.logits(ids)
    row = bundle_content.most_different(found, expected, TOLERANCE)
    if row is not None:
        raise BundleError(
            f"the bundle gives {found[row]} for row {row}, the live model {expected[row]}; "
            "nothing was written"
        )


@contextlib.contextmanager
def _folder_beside(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary folder that takes the target's name when all went well, and vanishes if not."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise InputError(f"cannot write to {target.parent}: {error.strerror}") from error
    try:
        yield folder
        folder.chmod(0o755)
        if target.exists():
            old = folder.with_suffix(".old")
            target.rename(old)
            folder.rename(target)
            shutil.rmtree(old)
        else:
            folder.rename(target)
    except OSError as error:
        raise InputError(f"cannot write the bundle {target}: {error}; nothing was left") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
