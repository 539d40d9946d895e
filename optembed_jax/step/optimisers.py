"""The optimisers of table, thresholds and network, and the settings of training."""

import dataclasses
from typing import Any

import jax
import optax

from optembed_jax.errors import InputError
from optembed_jax.models.forward import Params
from optembed_jax.table.decay import ROW_DECAYS, RowRule
from optembed_jax.table.state import TABLE_UPDATES


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Optimiser settings; hashable, static under jit.

    Attributes:
      lr: Adam's learning rate of table and network, above 0.
      l2: weight of the squared norm of rows and kernels, added to the gradient before Adam
        normalises it (the reference's coupled form), at least 0. Rows: see ``decay``.
      t_lr: SGD learning rate of the thresholds, at least 0.
      alpha: weight of the regulariser ``sum(exp(-t))``, at least 0.
      row_decay: what rows pay, one of ``decay.ROW_DECAYS``; ``l2_coupled`` and ``decoupled``
        by the weight ``l2``, ``rent`` by ``rent``.
      rent: of ``row_decay="rent"``, at least 0.
      table_update: ``sparse`` touches only the rows that a batch reads, ``dense`` all; ``auto`` is
        sparse for large tables, of stacks for each that is large.

    Raises:
      InputError: a value outside its range.
    """

    lr: float = 1e-3
    l2: float = 1e-5
    t_lr: float = 1e-4
    alpha: float = 1e-5
    row_decay: str = "l2_coupled"
    rent: float = 1e-3
    table_update: str = "auto"

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise InputError(f"lr must be above 0, not {self.lr}")
        for name in ("l2", "t_lr", "alpha", "rent"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must be at least 0, not {getattr(self, name)}")
        for name, allowed in (("row_decay", ROW_DECAYS), ("table_update", TABLE_UPDATES)):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}"
                )
        _ = self.row_rule

    @property
    def row_rule(self) -> RowRule:
        """How rows are updated.

        Raises:
          InputError: a decoupled decay that is too strong.
        """
        return RowRule(self.row_decay, self.lr, self.l2, self.rent)


@dataclasses.dataclass(frozen=True)
class Optimisers:
    """One optax transformation for each group of parameters."""

    table: optax.GradientTransformation
    thresholds: optax.GradientTransformation
    network: optax.GradientTransformation

    def init(self, params: Params) -> tuple[Any, Any]:
        """The states of thresholds and network; the table's is made by ``table_update``."""
        return self.thresholds.init(params.thresholds), self.network.init(params.network)

    def update(self, grads: Params, opt_state: Any, params: Params) -> tuple[Params, Any]:
        """Thresholds and network after a step, and the new states of all three.

        The table is none of it: it has taken its step, and is None.
        """
        thresholds, thresholds_state = self.thresholds.update(
            grads.thresholds, opt_state[1], params.thresholds
        )
        network, network_state = self.network.update(grads.network, opt_state[2], params.network)
        updates = Params(table=None, thresholds=thresholds, network=network)
        return (
            optax.apply_updates(params, updates),
            (opt_state[0], thresholds_state, network_state),
        )


def make_optimisers(config: TrainConfig) -> Optimisers:
    """The paper's three optimisers; the table's, as it is where Optax updates every row."""

    def adam(mask: Any) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(config.l2, mask=mask),
            optax.scale_by_adam(),
            optax.scale_by_learning_rate(config.lr),
        )

    def kernels(network: Any) -> Any:
        # By name, because DCN stacks the bias vectors of its layers in a matrix.
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf.ndim >= 2 and not path[-1].key.endswith("bias"), network
        )

    table = adam(None)  # The reference.
    if config.row_decay == "decoupled":
        table = optax.adamw(config.lr, weight_decay=config.l2)
    return Optimisers(table=table, thresholds=optax.sgd(config.t_lr), network=adam(kernels))
