"""The bundle: a compact model as a folder, verified on load, and served.

The files are described in :mod:`optembed_jax.serving.bundle_format`, and written by
:mod:`optembed_jax.serving.bundle_writer`.
"""

import functools
import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optembed_jax.data.encoder import Encoder, read_encoder
from optembed_jax.data.request_columns import RawColumns
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.backbone_name import KnownByName, backbone_name
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.serving import bundle_content, bundle_samples, request
from optembed_jax.serving import bundle_format as layout
from optembed_jax.serving.bundle_format import BundleError
from optembed_jax.serving.compact_model import tree_bytes
from optembed_jax.serving.forward_module import (
    Forward,
    ForwardRebuilt,
    ModuleRefused,
    build_forward,
    fields_of,
    load_forward,
)
from optembed_jax.serving.freed_memory import give_back
from optembed_jax.values.columns import as_columns
from optembed_jax.values.unseen import Watch, unseen_rows

_FEWER_BITS = 0.1  # Accelerators may multiply in 8 or 10 bits: enough to tell another model.


class Bundle:
    """A loaded bundle; make one with :meth:`load`.

    Attributes:
      path: its folder.
      manifest: what it is; docs/serving.md describes the keys.
      fields: names and sizes of the fields that ids refer to.
      compiled: numbers of rows that there are programs for.
    """

    def __init__(
        self,
        path: pathlib.Path,
        manifest: Mapping[str, Any],
        tensors: Mapping[str, np.ndarray],
        forward: Forward,
        encoder: Encoder | None = None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.fields = fields_of(manifest["fields"])
        self._weights = {name: jax.device_put(tensor) for name, tensor in tensors.items()}
        self._forward = jax.jit(forward)
        self._encoder = encoder
        self._watch = None if encoder is None else Watch(encoder.expected)
        self.compiled: set[int] = set()

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, warm: Sequence[int] = (), backbone: Any = None
    ) -> "Bundle":
        """Read a bundle after checking checksums, versions, shapes, the module, and what it gives
        for the samples.

        Warns (:class:`forward_module.ForwardRebuilt`) where JAX does not take the module: then the
        library's own code computes the forward pass of the same weights.

        Args:
          path: its folder.
          warm: numbers of rows that will be scored together, such as ``(1, 2048)``: programs for
            them are compiled now, not at the first request.
          backbone: the Flax module of a bundle with a backbone of its user's own; it is needed only
            where JAX does not take the bundle's module. What a bundle names is never imported.

        Raises:
          BundleError: anything in it is missing, changed, too new, or not as described.
        """
        folder = pathlib.Path(path).expanduser()
        if any(type(rows) is not int or rows < 1 for rows in warm):
            raise InputError(f"warm has to be numbers of rows, each at least 1, not {warm}")
        content = bundle_content.read_content(folder)
        manifest = content.manifest
        config = config_of(folder, manifest, backbone)
        tensors = content.served(lambda bits: bits.view(jnp.bfloat16))
        module = layout.read_module(folder, content.files)
        try:
            slots = fields_of(manifest["fields"]).num_columns
            forward: Forward = load_forward(module, tensors, slots).call
        except ModuleRefused as refused:
            forward = _rebuilt(folder, config, manifest, tensors, refused)
        except ValueError as error:
            raise BundleError(f"{folder / layout.FORWARD} cannot be used: {error}") from error
        encoder = _read_encoder(folder, content.files, fields_of(manifest["fields"]))
        bundle = cls(folder, manifest, tensors, forward, encoder)
        tolerance = bundle_samples.TOLERANCE if jax.default_backend() == "cpu" else _FEWER_BITS
        for rows in warm or (bundle_samples.SAMPLES,):
            bundle_samples.check_samples(
                folder, manifest, functools.partial(bundle.in_batches_of, rows), tolerance
            )
        del content, module
        give_back()  # what compiling took
        return bundle

    def in_batches_of(self, rows: int, ids: np.ndarray) -> np.ndarray:
        """Logits float32 ``[N]`` of ids, computed in batches of so many rows."""
        wanted = np.resize(ids, (-(-len(ids) // rows) * rows, self.fields.num_columns))
        return self.logits(wanted, batch_size=rows)[: len(ids)]

    @property
    def encoder(self) -> Encoder:
        """Raw columns to ids.

        Raises:
          BundleError: the bundle was made without a vocabulary.
        """
        if self._encoder is None:
            raise BundleError(f"{self.path} has no vocabulary: it takes ids, not raw columns")
        return self._encoder

    @property
    def has_vocabulary(self) -> bool:
        """Whether it takes raw columns, and not ids alone."""
        return self._encoder is not None

    @property
    def weights(self) -> Mapping[str, jax.Array]:
        """The arrays that are served, by name; see :func:`bundle_content.served`."""
        return self._weights

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays in memory."""
        return tree_bytes(self._weights)

    def encode(self, rows: RawColumns, first_row: int = 0) -> np.ndarray:
        """Ids int32 ``[N, F]`` of raw columns; see :meth:`data.encoder.Encoder.encode`.

        Warns (:class:`values.unseen.UnseenValues`), once for each field, when far more of the
        values that this bundle has been given have no row than in the training data.
        """
        return self._encode(rows, first_row, stacklevel=3)

    def _encode(self, rows: RawColumns, first_row: int, stacklevel: int) -> np.ndarray:
        ids = self.encoder.encode(rows, first_row)
        assert self._watch is not None
        unseen = unseen_rows(ids, self.fields.oov_ids, self.fields.slots)
        self._watch.add(unseen, len(ids), stacklevel)
        return ids

    def logits(self, rows: np.ndarray | RawColumns, *, batch_size: int = 2048) -> np.ndarray:
        """Logits float32 ``[N]``; arguments as of :meth:`predict`."""
        return self._logits(rows, batch_size, stacklevel=4)

    def _logits(
        self, rows: np.ndarray | RawColumns, batch_size: int, stacklevel: int
    ) -> np.ndarray:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")
        columns = as_columns(rows)
        if columns is None:
            fields = self.fields
            ids = fields.check_ids(rows)
            if any(fields.weighted):
                is_value = ids[:, : fields.num_slots] != fields.num_features
                of_slot = fields.field_of_slot
                request.check_weights(ids, is_value, fields.weighted_slots, fields.names, of_slot)
        else:
            ids = self._encode(columns, 0, stacklevel)
        parts = []
        for start in range(0, len(ids), batch_size):
            batch = ids[start : start + batch_size]
            # Few distinct sizes, so that few programs are compiled.
            size = min(batch_size, 1 << (len(batch) - 1).bit_length())
            self.compiled.add(size)
            if size > len(batch):
                padded = np.pad(batch, ((0, size - len(batch)), (0, 0)), mode="edge")
                parts.append(np.asarray(self._forward(self._weights, padded))[: len(batch)])
            else:
                parts.append(np.asarray(self._forward(self._weights, batch)))
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.zeros((0,), np.float32)

    def predict(self, rows: np.ndarray | RawColumns, *, batch_size: int = 2048) -> np.ndarray:
        """Click probabilities.

        Args:
          rows: ids, integers ``[N, F]``, of fields with several values ``[N, S]`` with ``V`` in
            slots without a value, or raw columns by name (a mapping or a ``pyarrow.Table``),
            whose unseen values read their field's OOV row.
          batch_size: rows per forward pass.

        Returns:
          float32 ``[N]``, in [0, 1].

        Raises:
          InputError: an id outside its field's block, or raw columns that cannot be used.
        """
        return request.probabilities(self._logits(rows, batch_size, stacklevel=4))


def _read_encoder(path: pathlib.Path, files: Mapping[str, bytes], fields: Fields) -> Encoder | None:
    if layout.VOCABULARY not in files:
        return None
    try:
        described, values = files[layout.ENCODER], files[layout.VOCABULARY]
        return read_encoder(described, values, fields, files.get(layout.TABLES))
    except InputError as error:
        raise BundleError(
            f"{path / layout.ENCODER} and {layout.VOCABULARY} cannot be used: {error}"
        ) from error


def config_of(path: pathlib.Path, manifest: Mapping[str, Any], backbone: Any = None) -> ModelConfig:
    """The model of a manifest, whose fields become objects of the library too.

    Raises:
      BundleError: they do not, or ``backbone`` is given and not the one of the manifest.
    """
    try:
        model = {**manifest["model"], "mlp_dims": tuple(manifest["model"]["mlp_dims"])}
        name = model["model"]
        if backbone is not None and backbone_name(backbone) != name:
            raise BundleError(f"{path} has the backbone {name}, not {backbone_name(backbone)}")
        if ":" in name:
            known = KnownByName(name, manifest["linear"] is not None)
            model["model"] = known if backbone is None else backbone
        config = ModelConfig(**model)
        fields_of(manifest["fields"])
    except BundleError:  # Which is a ValueError too.
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path / layout.MANIFEST} is not valid: {error}") from error
    return config


def _rebuilt(
    path: pathlib.Path,
    config: ModelConfig,
    manifest: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    refused: ModuleRefused,
) -> Forward:
    """The forward pass by the library's code, and a warning that says so."""
    if isinstance(config.model, KnownByName):
        raise BundleError(
            f"{path / layout.FORWARD} cannot be used ({refused}), and its backbone "
            f"{config.model.name} is its user's own: give its class to "
            "Bundle.load(path, backbone=...), or --model with --refresh"
        )
    forward = build_forward(config, manifest["fields"], manifest["linear_by_id"])
    weights = {name: jax.ShapeDtypeStruct(w.shape, w.dtype) for name, w in tensors.items()}
    ids = jax.ShapeDtypeStruct((1, fields_of(manifest["fields"]).num_columns), jnp.int32)
    try:
        jax.eval_shape(forward, weights, ids)
    except Exception as error:  # Of JAX and Flax, each has its own for shapes that do not fit.
        raise BundleError(
            f"{path / layout.FORWARD} cannot be used ({refused}), and the weights are not those "
            f"of the model: {' '.join(str(error).split())[:200]}"
        ) from error
    versions = manifest.get("versions")
    writer = versions.get("jax") if isinstance(versions, Mapping) else None
    own = " --model=package.module:Name" if config.has_own_backbone else ""
    warnings.warn(
        f"{path / layout.FORWARD}, written by jax {writer}, is not used: {refused}. The forward "
        "pass was built from the weights instead; to write the module anew: python -m "
        f"experiments.export --refresh --bundle={path}{own}",
        ForwardRebuilt,
        stacklevel=3,
    )
    return forward
