"""The forward pass of an artifact: named arrays and ids to logits, exported as StableHLO.

Weights are arguments of the exported module, not constants in it, so that they are stored once, in
a format that anything can read, and the module stays small.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import export

from optembed_jax.errors import InputError, Told
from optembed_jax.fields import Fields
from optembed_jax.method.bag import bags_of
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.serving.compact_model import with_norms
from optembed_jax.table.compact import CompactIndex, CompactTable
from optembed_jax.table.composed import ComposedIndex
from optembed_jax.table.joined import JoinedTable
from optembed_jax.table.quantize import Rows, ScaledRows
from optembed_jax.table.sharing import sharing

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

Forward = Callable[[Mapping[str, jax.Array], jax.Array], jax.Array]
"""``(weights by name, ids int32 [B, F]) -> logits float32 [B]``."""


class ModuleRefused(Exception):
    """JAX does not take the module, or it was not made for this platform; the message says why."""


class ForwardRebuilt(Told):
    """A bundle's module is of no use here, and its forward pass was built from its weights."""


# What jax.export itself writes: checks of symbolic shapes, and sharding marks without effect; and
# two functions of XLA's own that JAX 0.7 writes as calls, for want of an operation.
_HARMLESS_CALLS = {"shape_assertion", "Sharding", "mhlo.erf", "mhlo.topk"}


def fields_of(described: Sequence[Mapping[str, Any]]) -> Fields:
    """The fields that a manifest describes: ``name``, ``ids``, and ``slots`` and ``weighted``."""
    return Fields(
        tuple(field["name"] for field in described),
        tuple(field["ids"] for field in described),
        tuple(field.get("slots", 1) for field in described),
        tuple(field.get("weighted", False) for field in described),
    )


def index_of(
    weights: Mapping[str, Any],
    described: Sequence[Mapping[str, Any]],
    linear_by_id: bool,
    pooling: str,
) -> CompactIndex:
    """Where the ids of a manifest's fields have their rows; arguments as of :func:`model_of`."""
    fields = fields_of(described)
    return CompactIndex(
        remap=tuple(weights.get(f"remap/{number}") for number in range(len(described))),
        sizes=fields.sizes,
        kept=tuple(field["rows"] for field in described),
        dims=tuple(field["dim"] for field in described),
        linear_by_id=linear_by_id,
        bags=bags_of(fields, pooling),
    )


def model_of(
    weights: Mapping[str, jax.Array],
    fields: Sequence[Mapping[str, Any]],
    linear_by_id: bool,
    pooling: str = "mean",
) -> tuple[Params, Any, CompactIndex | ComposedIndex]:
    """The model of arrays by name.

    Args:
      weights: as ``bundle_content.served`` gives them.
      fields: of each field its ``name``, ``ids``, ``rows``, ``dim`` and ``storage``, and ``slots``
        where it has several.
      linear_by_id: as in :class:`CompactIndex`.
      pooling: of fields with several values.
    """
    nested = traverse_util.unflatten_dict(
        {n: w for n, w in weights.items() if n.startswith("network/")}, sep="/"
    )
    network, batch_stats = with_norms(nested.get("network", {}))
    if "places" in weights:
        rows: Rows = weights["rows/0"]
        if "scale/0" in weights:
            rows = ScaledRows(weights["rows/0"], weights["scale/0"], fields[0]["storage"])
        stored = CompactTable(rows=(rows,), linear=weights.get("linear"))
        composed = ComposedIndex(
            places=weights["places"],
            signs=weights.get("signs"),
            rows=weights["rows/0"].shape[0],
            sizes=tuple(field["ids"] for field in fields),
            kept=tuple(field["rows"] for field in fields),
            dim=fields[0]["dim"],
            bags=bags_of(fields_of(fields), pooling),
        )
        return Params(table=stored, thresholds=None, network=network), batch_stats, composed
    index = index_of(weights, fields, linear_by_id, pooling)
    arrays = sharing(index.dims, [field["storage"] for field in fields])
    table = JoinedTable(
        rows=tuple(weights[f"rows/{number}"] for number in range(len(arrays))),
        scale=tuple(weights.get(f"scale/{number}") for number in range(len(arrays))),
        linear=weights.get("linear"),
        linear_scale=weights.get("linear_scale"),
        arrays=arrays,
    )
    return Params(table=table, thresholds=None, network=network), batch_stats, index


def build_forward(
    config: ModelConfig, fields: Sequence[Mapping[str, Any]], linear_by_id: bool
) -> Forward:
    """The forward pass of arrays by name, by the code of this library; see :func:`model_of`."""

    def logits(named: Mapping[str, jax.Array], ids: jax.Array) -> jax.Array:
        params, batch_stats, index = model_of(named, fields, linear_by_id, config.pooling)
        return forward(config, params, batch_stats, ids, index)[0]

    return logits


def export_forward(
    config: ModelConfig,
    weights: Mapping[str, jax.Array | np.ndarray],
    fields: Sequence[Mapping[str, Any]],
    linear_by_id: bool,
    platforms: Sequence[str] = PLATFORMS,
) -> bytes:
    """Serialise ``(weights, ids [batch, F] int32) -> logits [batch]`` for some platforms.

    Of fields with several slots ids are ``[batch, S]``, with weights of values ``[batch, S + W]``.

    Raises:
      InputError: a backbone of one's own that does not work for any number of rows.
    """
    slots = fields_of(fields).num_columns
    logits = build_forward(config, fields, linear_by_id)
    (batch,) = export.symbolic_shape("batch")
    with _no_source_locations():
        given = (
            {name: jax.ShapeDtypeStruct(w.shape, w.dtype) for name, w in weights.items()},
            jax.ShapeDtypeStruct((batch, slots), jnp.int32),
        )
        try:
            exported = export.export(jax.jit(logits), platforms=platforms)(*given)
        except Exception as error:  # Of somebody else's code.
            if not config.has_own_backbone or isinstance(error, InputError):
                raise
            raise InputError(
                f"backbone {config.model_name} cannot be written into a bundle, where the number "
                "of rows is open (take embedded.shape[0], not len(embedded), and no int of it): "
                f"{_line(error)}"
            ) from error
        return bytes(exported.serialize())


@contextlib.contextmanager
def _no_source_locations() -> Iterator[None]:
    """Paths of source files would make the module differ by where it was written, and tell it."""
    option = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, option)
    jax.config.update(option, 0)
    try:
        yield
    finally:
        jax.config.update(option, before)


def load_forward(
    content: bytes, weights: Mapping[str, np.ndarray], num_slots: int
) -> export.Exported:
    """The exported forward pass, after comparing what it takes, returns and calls.

    Raises:
      ModuleRefused: JAX cannot read it, or it was not made for this platform.
      ValueError: it takes other arrays, returns something else, has side effects, or calls out of
        the module.
    """
    try:
        exported = export.deserialize(bytearray(content))
        module = exported.mlir_module()
    except Exception as error:  # Whatever a parser makes of other bytes than it expects.
        raise ModuleRefused(f"jax {jax.__version__} cannot read it: {_line(error)}") from error
    versions = (
        export.minimum_supported_calling_convention_version,
        export.maximum_supported_calling_convention_version,
    )
    convention = exported.calling_convention_version
    if not versions[0] <= convention <= versions[1]:  # Which JAX says at the first call only.
        raise ModuleRefused(
            f"it has calling convention {convention}, jax {jax.__version__} calls those of "
            f"{versions[0]} to {versions[1]}"
        )
    platform = export.default_export_platform()
    if platform not in exported.platforms:
        raise ModuleRefused(f"it was made for {', '.join(exported.platforms)}, this is {platform}")
    taken = [(aval.shape, aval.dtype) for aval in exported.in_avals]
    expected = [(weights[name].shape, weights[name].dtype) for name in sorted(weights)]
    if taken[:-1] != expected:
        raise ValueError("it takes other arrays than the weights")
    (batch, fields), ids_dtype = taken[-1]
    if export.is_symbolic_dim(fields) or fields != num_slots or ids_dtype != jnp.int32:
        raise ValueError(f"it takes ids {taken[-1]}, not int32 [batch, {num_slots}]")
    returned = [(aval.shape, aval.dtype) for aval in exported.out_avals]
    if returned != [((batch,), jnp.float32)] or not export.is_symbolic_dim(batch):
        raise ValueError(f"it returns {returned}, not float32 [batch]")
    calls = set(re.findall(r"custom_call\s*@([\w.]+)", module))
    calls |= {"another call" for _ in re.findall(r'"stablehlo.custom_call"', module)}
    if exported.ordered_effects or exported.unordered_effects or calls - _HARMLESS_CALLS:
        raise ValueError(f"it has effects or calls out: {sorted(calls - _HARMLESS_CALLS)}")
    return exported


def _line(error: Exception) -> str:
    """The first line of what an error says, for messages of one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
