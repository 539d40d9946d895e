"""What a comparison of methods is: its runs, and the flags of each."""

import dataclasses
from collections.abc import Sequence

from optembed_jax.errors import InputError
from optembed_jax.models.model_config import DEFAULT_ROW_KEEP
from optembed_jax.rivals.registry import OPTEMBED, rival_of

FULL = "full"
"""The plain model with the whole table, as it stands in a comparison."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A run of the grid.

    Attributes:
      method: of ``rivals.registry.METHODS``, or ``FULL``.
      share: of the parameters of the full table that may be kept, in (0, 1]; linear weights apart.
      seed: of the run.
    """

    method: str
    share: float
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.method}_{self.share!r}_{self.seed}"


@dataclasses.dataclass(frozen=True)
class Grid:
    """What is compared.

    Attributes:
      methods: of ``rivals.registry.METHODS``.
      shares: of the table's parameters.
      seeds: how many, from 0.
      parameters: of the full table.
      given: further flags of all runs, as a command line has them.

    Raises:
      InputError: nothing to compare, a method that is not there, or a share outside (0, 1].
    """

    methods: tuple[str, ...]
    shares: tuple[float, ...]
    seeds: int
    parameters: int
    given: tuple[str, ...]

    def __post_init__(self) -> None:
        check_asked(self.methods, self.shares, self.seeds)
        if int(min(self.shares) * self.parameters) < 1:
            raise InputError(
                f"--budgets={min(self.shares):g} is no parameter of {self.parameters:,}; raise it"
            )

    def cells(self) -> list[Cell]:
        """All runs, seed by seed, so that there is something to look at early."""
        found = []
        for seed in range(self.seeds):
            found += [Cell(m, share, seed) for share in self.shares for m in self.methods]
            found.append(Cell(FULL, 1.0, seed))
        return found

    def flags(self, cell: Cell) -> list[str]:
        """Of the run of a cell, but for its folder."""
        own = [f"--method={cell.method}", f"--seed={cell.seed}"]
        own.append(f"--max_table_parameters={int(cell.share * self.parameters)}")
        is_free = not any(flag.startswith("--row_keep=") for flag in self.given)
        if cell.method == OPTEMBED and is_free and cell.share > DEFAULT_ROW_KEEP:
            # The default's share of the rows could not spend so much.
            own.append(f"--row_keep={cell.share!r}")
        return [*self.given, *own]


def check_asked(methods: Sequence[str], shares: Sequence[float], seeds: int) -> None:
    """Refuse a grid that is none, before anything is prepared for it.

    Raises:
      InputError: nothing to compare, a method that is not there, or a share outside (0, 1].
    """
    for name, values in (("methods", methods), ("budgets", shares)):
        if not values or len(set(values)) < len(values):
            raise InputError(f"--{name} must be given and differ: {','.join(map(str, values))}")
    for method in methods:
        rival_of(method)
    for share in shares:
        if not 0 < share <= 1:
            raise InputError(f"--budgets are shares of the table in (0, 1], not {share:g}")
    if seeds < 1:
        raise InputError(f"--seeds must be at least 1, not {seeds}")
