"""The optimisers of table, thresholds and network, and the settings of training."""

import dataclasses
from typing import Any

import jax
import optax

from optembed_jax.errors import InputError
from optembed_jax.models.params import Params
from optembed_jax.step.learning_rate import Plateau, Schedule
from optembed_jax.table.decay import ROW_DECAYS, RowRule
from optembed_jax.table.device_form import TABLE_UPDATES
from optembed_jax.table.stochastic_rounding import TABLE_DTYPES

_OF_DEVICE = {"is_flag": False}
"""Of what decides how fast steps are, not what they come to: no flag, and not recorded."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Optimiser settings; hashable, static under jit.

    Attributes:
      lr: Adam's learning rate of table and network, above 0.
      table_lr: the table's own; None: ``lr``. Adagrad's steps become smaller from itself, so it
        wants a larger one.
      table_optimiser: what the table's optimiser keeps, one of ``moments.TABLE_OPTIMISERS``.
      l2: weight of half the squared norm of kernels, added to the gradient before Adam normalises
        it (the reference's coupled form), at least 0.
      table_l2: the same of rows and linear weights, at least 0; how rows pay it is the
        ``decay``'s. None: ``l2`` (the reference), but 0 where rows pay ``group_lasso``.
      t_lr: SGD learning rate of the thresholds, at least 0.
      alpha: weight of the regulariser ``sum(exp(-t))``, at least 0.
      row_decay: what rows pay, one of ``decay.ROW_DECAYS``, by the weights ``table_l2`` and,
        under ``group_lasso``, ``group_lasso``.
      group_lasso: weight of the norm of rows and of linear weights under
        ``row_decay="group_lasso"``, at least 0.
      table_update: ``sparse`` touches only the rows that a batch reads, ``dense`` all; ``auto`` is
        sparse for large tables, of stacks for each that is large (``device_form``).
      table_dtype: ``float32``, or ``bfloat16``: in which the rows of a training are kept, rounded
        by chance (``stochastic_rounding``); all else of it is float32.
      lr_plateau: ``FACTOR:PATIENCE``, ``learning_rate.Plateau`` that cuts the rates; None, or
        ``none``, never.
      lr_schedule: ``NAME:KEY=VALUE,...``, ``learning_rate.Schedule`` of the rates, in epochs; None
        leaves them.
      device: the kind of device that the steps are for, of ``device_form``; None: the first one's.
      begun_on: that whose ``auto`` it is, if another: a state has one form as long as it is
        trained.

    Raises:
      InputError: a value outside its range.
    """

    lr: float = 1e-3
    table_lr: float | None = None
    table_optimiser: str = "adam"
    l2: float = 1e-5
    table_l2: float | None = None
    t_lr: float = 1e-4
    alpha: float = 1e-5
    row_decay: str = "l2_coupled"
    group_lasso: float = 1e-3
    table_update: str = "auto"
    table_dtype: str = "float32"
    lr_plateau: str | None = None
    lr_schedule: str | None = None
    device: str | None = dataclasses.field(default=None, metadata=_OF_DEVICE)
    begun_on: str | None = dataclasses.field(default=None, metadata=_OF_DEVICE)

    def __post_init__(self) -> None:
        if isinstance(self.lr, jax.Array):  # Of ``at``, made of settings that were checked.
            return
        if not self.lr > 0:
            raise InputError(f"lr must be above 0, not {self.lr}")
        if self.table_lr is not None and not self.table_lr > 0:
            raise InputError(f"table_lr must be above 0, not {self.table_lr}")
        for name in ("l2", "t_lr", "alpha", "group_lasso"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must be at least 0, not {getattr(self, name)}")
        if self.table_l2 is not None and not self.table_l2 >= 0:
            raise InputError(f"table_l2 must be at least 0, not {self.table_l2}")
        if self.table_l2 and self.row_decay == "none":
            raise InputError(
                f"row_decay=none lets rows pay nothing, and table_l2 is {self.table_l2}; use "
                "another row_decay, such as l2_visited"
            )
        if self.row_decay == "rent":
            raise InputError("row_decay=rent is called row_decay=group_lasso now")
        for name, allowed in (
            ("row_decay", ROW_DECAYS),
            ("table_update", TABLE_UPDATES),
            ("table_dtype", TABLE_DTYPES),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}"
                )
        _ = self.row_rule, self.plateau, self.schedule
        if self.row_decay == "decoupled" and (self.plateau or self.lr_schedule):
            raise InputError(
                "row_decay=decoupled tabulates what idle rows do at one learning rate; with "
                "lr_plateau=none and without lr_schedule it works, or use another row_decay"
            )

    @property
    def plateau(self) -> Plateau | None:
        """``lr_plateau``, understood."""
        never = self.lr_plateau is None or self.lr_plateau == "none"
        return None if never else Plateau.parse(str(self.lr_plateau))

    @property
    def schedule(self) -> Schedule | None:
        """``lr_schedule``, understood."""
        return None if self.lr_schedule is None else Schedule.parse(self.lr_schedule)

    def as_record(self) -> dict[str, Any]:
        """What decides the result, by name; not which device it is for."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.metadata.get("is_flag", True)
        }

    def at(self, lr_scale: jax.Array) -> "TrainConfig":
        """These settings with all learning rates times ``lr_scale``; to be used in one trace."""
        if self.row_decay == "decoupled":
            return self
        rates: Any = {"lr": self.lr * lr_scale, "t_lr": self.t_lr * lr_scale}
        if self.table_lr is not None:
            rates["table_lr"] = self.table_lr * lr_scale
        return dataclasses.replace(self, **rates)

    @property
    def row_rule(self) -> RowRule:
        """How rows are updated.

        Raises:
          InputError: a decoupled decay that is too strong, or one that the optimiser has no lazy
            form of.
        """
        lr = self.lr if self.table_lr is None else self.table_lr
        return RowRule(
            self.row_decay,
            lr,
            self._l2_of_rows,
            self.group_lasso,
            self.table_optimiser,
            self.device,
        )

    @property
    def _l2_of_rows(self) -> float:
        if self.table_l2 is not None:
            return self.table_l2
        return 0.0 if self.row_decay in ("group_lasso", "none") else self.l2


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
    rule = config.row_rule

    def adam(lr: float, l2: float, mask: Any) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(l2, mask=mask),
            optax.scale_by_adam(),
            optax.scale_by_learning_rate(lr),
        )

    def kernels(network: Any) -> Any:
        # By name, because DCN stacks the bias vectors of its layers in a matrix.
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf.ndim >= 2 and not path[-1].key.endswith("bias"), network
        )

    table = adam(rule.lr, rule.l2, None)  # The reference.
    if rule.decay == "decoupled":
        table = optax.adamw(rule.lr, weight_decay=rule.l2)
    network = adam(config.lr, config.l2, kernels)
    return Optimisers(table=table, thresholds=optax.sgd(config.t_lr), network=network)
