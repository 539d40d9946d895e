"""A backbone of one's own: any Flax module, Linen or NNX, in the place of one of the library's.

The module is called with ``embedded`` ``[B, F, D]``, in float32 or what ``compute_dtype`` says, and
whatever else its ``__call__`` has a parameter for: ``linear`` float32 ``[B]`` (then the table has
linear weights), ``train`` bool,
``weights`` float32 ``[B]`` or None. It returns logits float32 ``[B]`` (under
``compute_dtype=bfloat16`` also bfloat16), to which a bias of the
library's is added: what ``output_bias`` sets and shifts.

Its constructor is given what of ``backbone_name.GIVEN`` it has parameters for; an NNX one ``rngs``
too. Compact, it reads the full width again, with zeros where columns were pruned, so its logits are
those of the masked model whatever it computes, and its own parameters keep their size.

What a module does across examples is its own business: on several devices the batch statistics of
each are taken over its own examples, and averaged when they are kept, unless it goes by
``batch_axis`` as ``whole_batch`` does.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx, traverse_util

from optembed_jax.errors import InputError
from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.method.ragged import Ragged
from optembed_jax.models.backbone_name import (
    KnownByName,
    asked_of,
    backbone_name,
    class_of,
    options_of,
)
from optembed_jax.models.layers import Embedded
from optembed_jax.models.model_config import ModelConfig

OWN = "own"
"""Where its parameters and statistics are, beside the library's bias."""


class OwnBackbone(nn.Module):
    """The module of ``config.model`` and a bias.

    Attributes:
      config: the model.
      batch_axis: that the batch is split over, or None.
    """

    config: ModelConfig
    batch_axis: BatchAxis | None = None

    @nn.compact
    def __call__(
        self,
        embedded: Embedded,
        linear: jax.Array | None = None,
        *,
        train: bool,
        weights: jax.Array | None = None,
    ) -> jax.Array:
        """``embedded`` ``[B, F, D]`` or ragged, and ``linear`` ``[B]`` or None, to logits ``[B]``.

        Raises:
          InputError: the module gives something else than logits ``[B]``, or has no code here.
        """
        config = self.config
        if isinstance(config.model, KnownByName):
            raise InputError(
                f"backbone {config.model.name} is known by name alone; its class has to be given"
            )
        dense = embedded.full(config.latent_dim) if isinstance(embedded, Ragged) else embedded
        given = {"linear": linear, "train": train, "weights": weights}
        asked = asked_of(config.model)
        arguments = {name: value for name, value in given.items() if name in asked}
        bias = self.param("bias", nn.initializers.zeros, ())
        if issubclass(class_of(config.model), nn.Module):
            logits = self._linen(dense.shape[1])(dense, **arguments)
        else:
            logits = self._of_nnx(dense, arguments, train)
        shape, dtype = getattr(logits, "shape", ()), getattr(logits, "dtype", type(logits).__name__)
        if dtype == config.compute_dtype:
            logits, dtype = logits.astype(jnp.float32), jnp.dtype("float32")
        if shape != dense.shape[:1] or dtype != jnp.float32:
            raise InputError(
                f"backbone {backbone_name(config.model)} gives {dtype} {list(shape)} for a batch "
                f"of {list(dense.shape)}; a logit for each example is wanted: float32 "
                f"[{dense.shape[0]}]"
            )
        return bias + logits

    def _has(self, num_fields: int) -> dict[str, Any]:
        names = ("latent_dim", "mlp_dims", "dropout", "cross_layers")
        of_config = {name: getattr(self.config, name) for name in names}
        beside = {"num_fields": num_fields, "batch_axis": self.batch_axis, "dtype": self._dtype}
        return {**of_config, **beside}

    @property
    def _dtype(self) -> Any:
        """What ``dtype`` is given; None leaves a module's own default."""
        dtype = self.config.compute_dtype
        return None if dtype == "float32" else jnp.dtype(dtype)

    def _linen(self, num_fields: int) -> Any:
        model, has = self.config.model, self._has(num_fields)
        if not isinstance(model, nn.Module):
            return model(**options_of(model, has), name=OWN)
        told: Any = {"batch_axis": self.batch_axis} if hasattr(model, "batch_axis") else {}
        if self._dtype is not None:
            told["dtype"] = self._dtype
        return model.clone(parent=self, name=OWN, **told)

    def _of_nnx(self, dense: jax.Array, arguments: dict[str, Any], train: bool) -> Any:
        """By ``nnx.update`` of a fresh module, all within the trace.

        Not ``nnx.bridge.ToLinen``: it loses values that are neither parameters nor statistics where
        they were drawn at random, and has numbers for names, which no file of ours takes.
        """
        model = self.config.model
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
        if self.is_initializing():
            keys["params"] = self.make_rng("params")
        elif train and self.has_rng("dropout"):
            keys["dropout"] = self.make_rng("dropout")
        module = model(**options_of(model, self._has(dense.shape[1])), rngs=nnx.Rngs(**keys))
        others = nnx.state(module, nnx.Not(nnx.Any(nnx.Param, nnx.BatchStat, nnx.RngState)))
        if stray := [path for path, _ in nnx.to_flat_state(others)]:
            raise InputError(
                f"backbone {backbone_name(model)} keeps {'.'.join(map(str, stray[0]))}, which is "
                "neither nnx.Param nor nnx.BatchStat, and would not be saved"
            )
        for kind, collection in ((nnx.Param, "params"), (nnx.BatchStat, "batch_stats")):
            if self.is_initializing():
                if values := _values(nnx.state(module, kind)):
                    self.put_variable(collection, OWN, values)
            else:
                _put(module, kind, self.get_variable(collection, OWN) or {})
        module.train() if train else module.eval()
        logits = module(dense, **arguments)
        values = _values(nnx.state(module, nnx.BatchStat))
        if train and values and self.is_mutable_collection("batch_stats"):
            self.put_variable("batch_stats", OWN, values)
        return logits


def _values(state: Any) -> dict[str, Any]:
    """The arrays of an NNX state in nested dicts, numbers in paths as texts."""
    flat = {tuple(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}
    nested: dict[str, Any] = traverse_util.unflatten_dict(flat)
    return nested


def _put(module: Any, kind: Any, values: Any) -> None:
    flat, state = traverse_util.flatten_dict(values), nnx.state(module, kind)
    renewed = [
        (path, leaf.replace(flat[tuple(map(str, path))])) for path, leaf in nnx.to_flat_state(state)
    ]
    nnx.update(module, nnx.from_flat_state(renewed))


def check_variables(config: ModelConfig, variables: Any) -> None:
    """Refuse what would not be trained or saved of a backbone's fresh variables.

    Raises:
      InputError: collections besides parameters and batch statistics, or others than float32.
    """
    name = backbone_name(config.model)
    if others := sorted(set(variables) - {"params", "batch_stats"}):
        raise InputError(
            f"backbone {name} keeps {', '.join(others)}, which would not be saved; it may have "
            "params and batch_stats"
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(variables)):
        if jnp.result_type(leaf) != jnp.float32:
            raise InputError(
                f"backbone {name} has {jnp.result_type(leaf)} values in "
                f"{jax.tree_util.keystr(path)}; only float32 is trained and saved"
            )


def key_here(key: jax.Array | None, batch_axis: BatchAxis | None) -> jax.Array | None:
    """A key of this device's own, for layers that draw for their own examples alone."""
    if key is None or batch_axis is None:
        return key
    return jax.random.fold_in(key, jax.lax.axis_index(batch_axis.name))


def kept_statistics(batch_stats: Any, batch_axis: BatchAxis | None) -> Any:
    """Batch statistics that are equal on every device: their mean."""
    if batch_axis is None or not batch_stats:
        return batch_stats
    return jax.lax.pmean(batch_stats, batch_axis.name)
