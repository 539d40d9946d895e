"""All that is compared, in one place: families of regularisers, and the rungs of their ladders.

To compare something else, add a line to ``BASIC``, ``OPTIONS`` or ``WITH_OPTIONS``.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from optembed_jax.errors import InputError
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.training.early_stopping import EarlyStopping

GROUP_LASSO = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
TABLE_L2 = (1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)
ELASTIC = tuple((group_lasso, l2) for group_lasso in (1e-3, 1e-2, 1e-1) for l2 in (3e-2, 3e-1))

ADAGRAD_LR = (0.003, 0.01, 0.03, 0.1)
PROXIMAL: Mapping[str, Any] = {"row_decay": "group_lasso", "table_optimiser": "rowwise_adam"}
"""Proximal steps as the commands take them: by the optimiser that is their default there."""
AT_DEFAULT: Mapping[str, Any] = {"row_decay": "group_lasso", "group_lasso": 1e-3}

EPOCHS, PATIENCE = 30, 2


@dataclasses.dataclass(frozen=True)
class Rung:
    """One strength of a family.

    Attributes:
      name: as tables have it, such as ``0.001``.
      train: attributes of ``TrainConfig``.
    """

    name: str
    train: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Loop:
    """How a training begins and how long it goes on: the options that a family may change.

    Attributes:
      patience: epochs that are no better before it stops.
      by: figure of the validation split, ``auc`` or ``logloss``.
      errors: see ``EarlyStopping``.
      epochs: at most.
      at_click_rate: whether the output begins at the click rate, as by default.
    """

    patience: int = PATIENCE
    by: str = "auc"
    errors: float = 0.0
    epochs: int = EPOCHS
    at_click_rate: bool = True

    @property
    def stopping(self) -> EarlyStopping:
        """What is better, and by how much."""
        return EarlyStopping(self.by, self.errors)


@dataclasses.dataclass(frozen=True)
class Family:
    """A regulariser, with some options, at several strengths.

    Attributes:
      name: by which flags and records know it.
      title: what it is.
      rungs: the weakest first.
      loop: how it begins and how long it trains.
      tuned_as: the family whose best rung it takes; None has a ladder of its own.
      pruned: whether it is compared pruned, too.
    """

    name: str
    title: str
    rungs: tuple[Rung, ...]
    loop: Loop = Loop()
    tuned_as: str | None = None
    pruned: bool = False

    def train(self, rung: str) -> TrainConfig:
        """The optimiser settings at a rung."""
        found = next(known for known in self.rungs if known.name == rung)
        return TrainConfig(**found.train)


def _ladder(strengths: Sequence[float], name: str, **train: Any) -> tuple[Rung, ...]:
    return tuple(Rung(f"{strength:g}", {**train, name: strength}) for strength in strengths)


BASIC: tuple[Family, ...] = (
    Family(
        "group_lasso",
        "group lasso, proximal",
        _ladder(GROUP_LASSO, "group_lasso", **PROXIMAL),
        pruned=True,
    ),
    Family(
        "l2_proximal",
        "table L2, proximal",
        _ladder(TABLE_L2, "table_l2", **PROXIMAL, group_lasso=0.0),
        pruned=True,
    ),
    Family(
        "l2_coupled",
        "table L2, in the gradient, all rows",
        _ladder(TABLE_L2, "table_l2", row_decay="l2_coupled"),
        pruned=True,
    ),
    Family(
        "elastic_net",
        "group lasso and table L2, proximal",
        tuple(
            Rung(
                f"{group_lasso:g} + {l2:g}",
                {**PROXIMAL, "group_lasso": group_lasso, "table_l2": l2},
            )
            for group_lasso, l2 in ELASTIC
        ),
        pruned=True,
    ),
    Family(
        "l2_visited",
        "table L2, in the gradient, rows read",
        _ladder(TABLE_L2, "table_l2", row_decay="l2_visited"),
    ),
    Family("none", "nothing", (Rung("-", {"row_decay": "none"}),)),
)
"""Each regulariser."""

OPTIMISERS: tuple[Family, ...] = (
    Family("adam", "Adam", (Rung("-", AT_DEFAULT),)),
    Family(
        "rowwise_adam",
        "a second moment a row",
        (Rung("-", {**AT_DEFAULT, "table_optimiser": "rowwise_adam"}),),
    ),
    Family(
        "rowwise_adagrad",
        "row-wise Adagrad",
        _ladder(ADAGRAD_LR, "table_lr", **{**AT_DEFAULT, "table_optimiser": "rowwise_adagrad"}),
    ),
)
"""The table's optimisers, under the group lasso at its default; docs/row_update.md has what came
out.
"""

OPTIONS: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    "plateau": ("plateau", {"lr_plateau": "0.1"}, {}),
    "patience": ("patience 4", {}, {"patience": 4}),
    "noise": ("noise spends no patience", {}, {"errors": 3.0}),
    "logloss": ("stops by logloss", {}, {"by": "logloss"}),
    "random": ("output begins at random", {}, {"at_click_rate": False}),
}
"""What may be added: a title, attributes of ``TrainConfig``, and of ``Loop``."""

MAIN = "plateau"
"""The option with which all are compared, since all are better with it."""

BARE = ("group_lasso", "l2_proximal", "l2_coupled", "none")
"""The regularisers that are tuned without it, too."""

WITH_OPTIONS = ("group_lasso", "l2_proximal")
"""Those to which each other option is added alone, and beside the main one."""


def with_options(base: Family, options: Sequence[str], tuned_as: str | None = None) -> Family:
    """A family with some options, with a ladder of its own or the best rung of another."""
    titles = [OPTIONS[option][0] for option in options]
    train: dict[str, Any] = {}
    loop: dict[str, Any] = {}
    for option in options:
        train |= OPTIONS[option][1]
        loop |= OPTIONS[option][2]
    return Family(
        "+".join([base.name, *options]),
        "; ".join([base.title, *titles]),
        tuple(Rung(rung.name, {**rung.train, **train}) for rung in base.rungs),
        dataclasses.replace(base.loop, **loop),
        tuned_as,
        pruned=base.pruned and list(options) == [MAIN],
    )


def _all_families() -> dict[str, Family]:
    basic = {family.name: family for family in BASIC}
    bases = [basic[name] for name in WITH_OPTIONS]
    others = [option for option in OPTIONS if option != MAIN]
    found = [
        *(with_options(base, [MAIN]) for base in BASIC),
        *(dataclasses.replace(basic[name], pruned=False) for name in BARE),
        *(
            with_options(base, [MAIN, option], f"{base.name}+{MAIN}")
            for option in others
            for base in bases
        ),
        *(with_options(base, [option], base.name) for option in others for base in bases),
        *(with_options(base, [MAIN]) for base in OPTIMISERS),
    ]
    return {family.name: family for family in found}


FAMILIES: Mapping[str, Family] = _all_families()
"""By name, the most telling first."""


def families(names: Sequence[str]) -> tuple[Family, ...]:
    """Families by name; none named is all of them.

    Raises:
      InputError: there is no such family.
    """
    for name in names:
        if name not in FAMILIES:
            raise InputError(f"--variants: no {name!r}; there are {', '.join(FAMILIES)}")
    return tuple(family for name, family in FAMILIES.items() if not names or name in names)
