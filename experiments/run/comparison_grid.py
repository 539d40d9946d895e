"""What a comparison of methods is: its runs, and the flags of each."""

import dataclasses
from collections.abc import Sequence

from optembed_jax.errors import InputError
from optembed_jax.rivals.registry import OPTEMBED, rival_of
from optembed_jax.table.quantize import STORAGES

FULL = "full"
"""The plain model with the whole table, as it stands in a comparison."""

PARAMETERS, BYTES = "max_table_parameters", "max_bundle_bytes"
"""What budgets are of, by the flag of a run that keeps to one."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A run of the grid.

    Attributes:
      method: as :func:`parts_of` reads it, or ``FULL``.
      share: of what the full table has that may be kept, in (0, 1], see :class:`Grid`.
      seed: of the run.
    """

    method: str
    share: float
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.method.replace(':', '-')}_{self.share!r}_{self.seed}"


@dataclasses.dataclass(frozen=True)
class Grid:
    """What is compared.

    Attributes:
      methods: as :func:`parts_of` reads them.
      shares: of the parameters of the full table, linear weights apart; or of the bytes of the full
        model's bundle, float32 with all values.
      seeds: how many, from 0.
      parameters: of the full table.
      given: further flags of all runs, as a command line has them.
      counts: of what shares are: ``PARAMETERS`` or ``BYTES``.
      data: fingerprint of the prepared data.

    Raises:
      InputError: nothing to compare, a method that is not there, or a share outside (0, 1].
    """

    methods: tuple[str, ...]
    shares: tuple[float, ...]
    seeds: int
    parameters: int
    given: tuple[str, ...]
    counts: str = PARAMETERS
    data: str = ""

    def __post_init__(self) -> None:
        check_asked(self.methods, self.shares, self.seeds, self.counts)
        if self.counts == PARAMETERS and int(min(self.shares) * self.parameters) < 1:
            raise InputError(
                f"--budgets={min(self.shares):g} is no parameter of {self.parameters:,}; raise it"
            )

    @property
    def is_tuned(self) -> bool:
        """Whether a strength is chosen by validation before all."""
        return any(flag.startswith("--tune=") and flag != "--tune=none" for flag in self.given)

    def cells(self) -> list[Cell]:
        """All runs, seed by seed, so that there is something to look at early.

        The plain model comes first: other runs of the seed take it over, and its bundle says what
        shares of bytes are of.
        """
        found = []
        for seed in range(self.seeds):
            found.append(Cell(FULL, 1.0, seed))
            found += [Cell(m, share, seed) for share in self.shares for m in self.methods]
        return found

    def flags(self, cell: Cell, full_bytes: int = 0) -> list[str]:
        """Of the run of a cell, but for its folder.

        Args:
          cell: which.
          full_bytes: of the full model's bundle, where shares are of those.
        """
        if cell.method == FULL:
            return [*self.given, f"--seed={cell.seed}"]
        method, storage = parts_of(cell.method)
        # A rival says itself how many rows it keeps.
        given = [flag for flag in self.given if method == OPTEMBED or not _is_row_keep(flag)]
        own = [f"--method={method}", f"--seed={cell.seed}"]
        own += [] if storage is None else [f"--storage={storage}"]
        if self.counts == BYTES:
            return [*given, *own, f"--{BYTES}={int(cell.share * full_bytes)}"]
        return [*given, *own, f"--{PARAMETERS}={int(cell.share * self.parameters)}"]


def _is_row_keep(flag: str) -> bool:
    return flag.startswith("--row_keep=")


def parts_of(word: str) -> tuple[str, str | None]:
    """The method and the storage of a word such as ``frequency:int8``; None where it has none.

    Raises:
      InputError: there is no such method, or no such storage.
    """
    method, _, storage = word.partition(":")
    rival_of(method)
    if ":" in word and storage not in ("auto", *STORAGES):
        raise InputError(
            f"--methods={word}: behind the colon is its --storage, one of {', '.join(STORAGES)} "
            f"or auto, not {storage!r}"
        )
    return method, storage or None


def flag_of(counts: str) -> str:
    """The flag that has the budgets of a comparison."""
    return "budgets" if counts == PARAMETERS else "bundle_budgets"


def is_optembed(word: str) -> bool:
    """Whether a word is of the project's own method."""
    return word.partition(":")[0] == OPTEMBED


def check_asked(
    methods: Sequence[str], shares: Sequence[float], seeds: int, counts: str = PARAMETERS
) -> None:
    """Refuse a grid that is none, before anything is prepared for it.

    Raises:
      InputError: nothing to compare, a method that is not there, or a share outside (0, 1].
    """
    flag = flag_of(counts)
    for name, values in (("methods", methods), (flag, shares)):
        if not values or len(set(values)) < len(values):
            raise InputError(f"--{name} must be given and differ: {','.join(map(str, values))}")
    for method in methods:
        parts_of(method)
    for share in shares:
        if not 0 < share <= 1:
            raise InputError(f"--{flag} are shares of the whole in (0, 1], not {share:g}")
    if seeds < 1:
        raise InputError(f"--seeds must be at least 1, not {seeds}")
