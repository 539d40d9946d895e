"""Parameters: all that is trained of a model, and how it begins."""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.method.embedding import init_table
from optembed_jax.method.row_axis import WithRows
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.network import backbone
from optembed_jax.models.output_bias import predicting
from optembed_jax.models.own_backbone import check_variables


@flax.struct.dataclass
class Params(WithRows):
    """All that is trained, in the three groups that have an optimiser each.

    Attributes:
      table: the embedding ``Table`` with its linear weights and OOV vectors; ``Stacks`` where it is
        trained compact, a ``CompactTable`` where it is served.
      thresholds: float32 ``[F]`` or ``[V]``; None where no rows are pruned.
      network: the backbone's parameters.
    """

    table: Any
    thresholds: jax.Array | None
    network: Any

    def row_counts(self, rows: int, level: str) -> Any:
        """As of any ``WithRows``; thresholds of features have a line for each row."""
        counted = super().row_counts(rows, level)
        if self.thresholds is not None and level == "feature":
            of_thresholds: Any = rows
            return dataclasses.replace(counted, thresholds=of_thresholds)
        return counted


def check_network(config: ModelConfig, params: Params, fields: Fields) -> None:
    """Refuse a full model whose network or thresholds are not of the config and the fields.

    Raises:
      InputError: they are not; the message names an array.
    """
    wanted = _shapes(config, fields)
    for part in ("thresholds", "network"):
        found, own = getattr(params, part), getattr(wanted, part)
        if part == "thresholds" and (found is None or own is None):
            continue  # Frozen before, or by who cuts them off.
        shapes, leaves = (dict(jax.tree_util.tree_leaves_with_path(tree)) for tree in (own, found))
        for path in sorted({*shapes, *leaves}, key=jax.tree_util.keystr):
            has, asked = (tree[path].shape if path in tree else None for tree in (leaves, shapes))
            if has != asked:
                raise InputError(
                    f"{part}{jax.tree_util.keystr(path)} has shape {_told(has)}, and "
                    f"{config.model_name} of {fields.num_fields} fields {_told(asked)}: the "
                    "parameters are of other fields, or of another config"
                )


def _told(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else str(list(shape))


@functools.lru_cache(maxsize=8)
def _shapes(config: ModelConfig, fields: Fields) -> Params:
    """Shapes of full parameters, without making them."""
    made: Params = jax.eval_shape(
        lambda key: init_params(key, config, fields)[0], jax.random.key(0)
    )
    return made


def init_params(
    key: jax.Array, config: ModelConfig, fields: Fields, click_rate: float | None = None
) -> tuple[Params, Any]:
    """Fresh parameters and batch statistics. Thresholds start at 0 (section 3.2).

    Args:
      key: PRNG key.
      config: the model.
      fields: the data set's fields.
      click_rate: of the training split, which the output starts at (``output_bias``); None
        starts it at random (the reference).

    Returns:
      ``(params, batch_stats)``; ``batch_stats`` is an empty dict for a backbone without BatchNorm.

    Raises:
      InputError: the backbone cannot be of these fields.
    """
    if config.model == "dlrm" and fields.num_fields < 2:
        raise InputError("dlrm reads products of pairs of fields, and there is one; give two")
    table_key, network_key = jax.random.split(key)
    table = init_table(
        table_key,
        fields,
        config.latent_dim,
        linear=config.has_linear_term,
        oov=config.prunes_rows and config.mode_oov == "oov",
    )
    embedded = jnp.zeros((2, fields.num_fields, config.latent_dim), jnp.float32)
    linear = jnp.zeros((2,), jnp.float32) if config.has_linear_term else None
    variables = backbone(config).init(network_key, embedded, linear, train=False)
    if config.has_own_backbone:
        check_variables(config, variables)
    network = variables.get("params", {})
    if click_rate is not None:
        network = predicting(network, click_rate)
    thresholds = None
    if config.learns_thresholds:
        level = config.mode_threshold
        size = fields.num_fields if level == "field" else fields.num_features
        thresholds = jnp.zeros((size,), jnp.float32)
    return (
        Params(table=table, thresholds=thresholds, network=network),
        variables.get("batch_stats", {}),
    )
