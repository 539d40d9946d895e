"""Writing a bundle: into a folder beside the target, loaded again, compared, and then renamed."""

import dataclasses
import json
import os
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from jax import export

from optembed_jax.data.encoder import Encoder
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.serving import bundle_content, bundle_manifest, bundle_samples, model_card
from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving.bundle import Bundle, config_of
from optembed_jax.serving.bundle_format import BundleError
from optembed_jax.serving.forward_module import (
    PLATFORMS,
    ForwardRebuilt,
    build_forward,
    export_forward,
)
from optembed_jax.serving.numpy_bundle import NumpyBundle
from optembed_jax.serving.stored_model import (
    Storage,
    StoredModel,
    describe_fields,
    store,
    tensors_of,
)
from optembed_jax.storage.versions import versions
from optembed_jax.storage.whole_folder import replaced
from optembed_jax.table import packing
from optembed_jax.table.compact import CompactIndex
from optembed_jax.table.composed import ComposedIndex

TOLERANCE = 1e-5
"""Largest difference in a logit that a written bundle may have from the live model, relative to
the larger of 1 and the logit."""

_PACKAGES = ("jax", "flax", "numpy", "safetensors")
"""Whose versions a manifest tells, of what wrote its module."""


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a model comes from; all of it is optional, and goes into manifest and model card.

    Attributes:
      dataset: name and fingerprint of the data set, and the like.
      metrics: such as ``test_auc``.
      flags: that the model was trained with.
      worth: what each field is worth and how often its values are unseen, of all fields in order:
        ``auc`` (lost with its values shuffled, None where there is none), ``logloss`` (gained
        likewise) and ``unseen`` (share of rows), all of them on validation rows; and ``saliency``
        (its share of the supernet's), where rows were chosen by that.
      pad_for: chips that the table was meant for (``v5p-256``): the manifest counts its bytes as
        their SparseCores store it.
    """

    dataset: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    worth: Mapping[str, Sequence[float | None]] = dataclasses.field(default_factory=dict)
    pad_for: str | None = None


def write_bundle(
    path: str | os.PathLike[str],
    config: ModelConfig,
    params: Params,
    batch_stats: Any,
    index: CompactIndex | ComposedIndex,
    fields: Fields,
    *,
    storage: Storage | None = None,
    encoder: Encoder | None = None,
    counts: np.ndarray | None = None,
    provenance: Provenance | None = None,
    check: tuple[np.ndarray, np.ndarray] | None = None,
    full_rows: int | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> "Bundle":
    """Write a compact model, load it again, compare, and only then give it its name.

    Args:
      path: the folder to make; a bundle that is there is replaced, anything else is refused.
      config: the model.
      params: compact parameters, in float32.
      batch_stats: its running batch statistics.
      index: of the compact table.
      fields: of the ids that the index takes.
      storage: of the parts of the model; None stores float32.
      encoder: for raw columns; None makes a bundle that takes ids only.
      counts: training rows that had each id, int64 ``[V]``; None does not tell them.
      provenance: where the model comes from.
      check: ids int32 ``[N, F]`` and the live model's logits ``[N]``, which the loaded bundle has
        to give within ``TOLERANCE``.
      full_rows: rows of the table that the model was cut from; None: as many as there are ids.
      platforms: that the module is for. Where this one is not among them the module is not tried:
        what is compared is computed by the library's own code.

    Returns:
      The bundle, loaded from what was written.

    Raises:
      InputError: something else is at the path, or it cannot be written.
      BundleError: what was written does not give the live model's logits.
    """
    target = pathlib.Path(path).expanduser().absolute()
    layout.check_replaceable(target)
    stored = store(params, batch_stats, index, storage)
    rows = fields.num_features if full_rows is None else full_rows
    files = content_of(config, stored, index, fields, provenance or Provenance(), rows, platforms)
    with replaced(target) as folder:
        if encoder is not None:
            files |= encoder_files(encoder)
        if counts is not None:
            files[layout.COUNTS] = counts_file(counts)
        _write(folder, files)
        loaded = _loaded(folder, platforms)
        _compare(loaded, check)
        told = None if encoder is None else loaded.encoder.vocabulary.layout
        if told is not None and (told.names, told.sizes) != (fields.names, fields.sizes):
            raise BundleError("the vocabulary that was written has other fields than the model")
    loaded.path = target
    return loaded


def content_of(
    config: ModelConfig,
    stored: StoredModel,
    index: CompactIndex | ComposedIndex,
    fields: Fields,
    provenance: Provenance,
    full_rows: int,
    platforms: Sequence[str] = PLATFORMS,
    module_of: Callable[..., bytes] = export_forward,
) -> dict[str, bytes]:
    """The files of a bundle but for its vocabulary, by name; arguments as of `write_bundle`.

    The module is made by ``module_of``, which takes what `export_forward` does.
    """
    # A bundle computes in float32, however its model was trained.
    config, tensors = config.in_float32, tensors_of(stored, index)
    of_model = {name: v for name, v in config.as_record().items() if name != "compute_dtype"}
    linear_by_id = index.linear_by_id and stored.table.linear is not None
    described = describe_fields(fields.names, index, stored)
    of_index = {"fields": described, **index.described()}
    is_composed = bundle_manifest.COMPOSITION in of_index
    tables = bundle_manifest.tables_of(of_index)
    manifest = {
        "format": layout.FORMAT,
        "format_version": layout.version_of(described, is_composed),
        "model": of_model,
        **of_index,
        "full_rows": full_rows,
        "linear": None if stored.table.linear is None else stored.storage.linear,
        "linear_by_id": linear_by_id,
        "kernels": {
            name: [storage, stored.inputs[name]]
            for name, storage in stored.storage.kernels.items()
            if storage != "float32"
        },
        "bytes": bundle_manifest.count_bytes(
            tables, tensors, full_rows, config.latent_dim, provenance.pad_for
        ),
        **({bundle_manifest.PAD_FOR: provenance.pad_for} if provenance.pad_for else {}),
        "dataset": dict(provenance.dataset),
        "metrics": dict(provenance.metrics),
        "flags": dict(provenance.flags),
        **({"worth": dict(provenance.worth)} if provenance.worth else {}),
        "versions": versions(*_PACKAGES),
    }
    ids = bundle_samples.draw_samples(described)
    if config.has_own_backbone:  # Nobody has its formulas but itself.
        served = bundle_content.served(manifest, tensors)
        with jax.default_matmul_precision("float32"):
            score = jax.jit(build_forward(config, described, linear_by_id))
            logits = np.asarray(score(served, ids))
    else:  # By formulas and a library of their own, and in float32 wherever it runs.
        packed = bundle_content.served(manifest, tensors, packing.in_few_bits)
        logits = NumpyBundle(pathlib.Path(), manifest, packed).logits(ids)
        del packed  # A copy of the whole table, and another follows.
        served = bundle_content.served(manifest, tensors)
    manifest["samples"] = {"ids": ids.tolist(), "logits": logits.tolist()}
    module = module_of(config, served, described, linear_by_id, platforms)
    return {
        **_telling(manifest),
        layout.WEIGHTS: safetensors.numpy.save(tensors),
        layout.FORWARD: layout.packed_module(module),
    }


def encoder_files(encoder: Encoder) -> dict[str, bytes]:
    """The files by which raw columns become ids, by name."""
    names = (layout.ENCODER, layout.VOCABULARY, layout.TABLES)
    files = zip(names, encoder.written(), strict=True)
    return {name: content for name, content in files if content is not None}


def counts_file(counts: np.ndarray) -> bytes:
    """The file of how many training rows had each id, int64 ``[V]``."""
    return safetensors.numpy.save({"counts": counts})


def refresh_module(
    source: pathlib.Path,
    target: pathlib.Path,
    platforms: Sequence[str] = PLATFORMS,
    *,
    backbone: Any = None,
) -> Bundle:
    """Write a bundle again with a module of this JAX, load it, and only then give it its name.

    All else stays as it is, but for the ``versions`` of manifest and card, which are those that
    wrote the module.

    Args:
      source: the bundle; its module need not be of use any more.
      target: may be the source.
      platforms: that the module is for.
      backbone: as of ``Bundle.load``.

    Raises:
      BundleError: anything else of the bundle is missing, changed, or not as described.
      InputError: something else is at the target, or it cannot be written.
    """
    layout.check_replaceable(target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ForwardRebuilt)  # Which is why it is written anew.
        old = Bundle.load(source, backbone=backbone)
    content = bundle_content.read_content(source)
    manifest = {**content.manifest, "versions": versions(*_PACKAGES)}
    try:
        telling = _telling(manifest)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BundleError(
            f"{source}: no model card can be made of its manifest: {error!r}"
        ) from error
    config, fields = config_of(source, manifest, backbone), manifest["fields"]
    module = export_forward(config, old.weights, fields, manifest["linear_by_id"], platforms)
    files = {**content.files, **telling, layout.FORWARD: layout.packed_module(module)}
    with replaced(target) as folder:
        _write(folder, files)
        loaded = _loaded(folder, platforms)
    loaded.path = target
    return loaded


def _telling(manifest: Mapping[str, Any]) -> dict[str, bytes]:
    """The files that tell what a bundle is."""
    text = json.dumps(manifest, separators=(",", ":"), allow_nan=False) + "\n"
    return {
        layout.MANIFEST: text.encode(),
        layout.CARD: model_card.render(manifest).encode(),
    }


def _write(folder: pathlib.Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / layout.SUMS).write_bytes(layout.format_sums(files))


def is_tried(platforms: Sequence[str]) -> bool:
    """Whether a module for these platforms is run here when it is written."""
    return export.default_export_platform() in platforms


def _loaded(folder: pathlib.Path, platforms: Sequence[str]) -> Bundle:
    with warnings.catch_warnings():
        if not is_tried(platforms):  # Which was asked for.
            warnings.simplefilter("ignore", ForwardRebuilt)
        return Bundle.load(folder)


def _compare(bundle: Bundle, check: tuple[np.ndarray, np.ndarray] | None) -> None:
    if check is None:
        return
    ids, expected = check
    found = bundle.logits(ids)
    row = bundle_samples.most_different(found, expected, TOLERANCE)
    if row is not None:
        raise BundleError(
            f"the bundle gives {found[row]} for row {row}, the live model {expected[row]}; "
            "nothing was written"
        )
