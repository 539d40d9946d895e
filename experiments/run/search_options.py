"""What is searched for, as the flags say it: by which strategy, and under which budget."""

import dataclasses

from optembed_jax.errors import InputError
from optembed_jax.fitness.split_scorer import MEASURES
from optembed_jax.search.budget import BYTES_PER_PARAMETER
from optembed_jax.search.dimension_rules import DIMENSION_RULES
from optembed_jax.table.topology import Topology, topology_of

STRATEGIES = ("auto", "paper", "budget", "pareto", "random", *DIMENSION_RULES)


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """A flag for each attribute.

    Attributes:
      search: ``paper``, the evolution without a budget; ``budget``, one under a budget that begins
        with the simple rules and is assisted by a surrogate model of what it scored; ``pareto``, a
        front of AUC against size; ``random``; or a simple rule. ``auto`` is ``budget`` where there
        is one, else ``paper``.
      max_table_parameters: of the final table, over the rows kept; None does not bound them.
      max_table_bytes: the same in bytes of float32; the smaller one holds.
      max_bundle_bytes: of the whole folder that is served, as ``planned_bytes`` counts it, in
        place of a table; None does not bound them.
      pad_dims_to: dimensions are paid for as multiples of it.
      pad_for: rows and dimensions are paid for as the SparseCores of these chips store them, such
        as ``v5p-256``; None: as they are.
      fitness: by which the supernet judges candidates on the validation rows: ``auc``, or
        ``logloss`` with batch statistics that are taken anew for each candidate.
      keep_rates: shares of the rows to choose from, too; without any the supernet's rows are kept.

    Raises:
      InputError: a value outside its range, or a strategy that needs a budget without one.
    """

    search: str = "auto"
    max_table_parameters: int | None = None
    max_table_bytes: int | None = None
    max_bundle_bytes: int | None = None
    pad_dims_to: int = 1
    pad_for: str | None = None
    fitness: str = "auc"
    keep_rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.search not in STRATEGIES:
            raise InputError(f"search must be one of {', '.join(STRATEGIES)}, not {self.search!r}")
        if self.fitness not in MEASURES:
            raise InputError(f"fitness must be one of {', '.join(MEASURES)}, not {self.fitness!r}")
        for name in ("max_table_parameters", "max_table_bytes", "max_bundle_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")
        if self.pad_dims_to < 1:
            raise InputError(f"pad_dims_to must be at least 1, not {self.pad_dims_to}")
        if self.pad_for and self.pad_dims_to != 1:
            raise InputError(
                f"pad_for={self.pad_for} says what dimensions are padded to; leave out pad_dims_to"
            )
        try:
            _ = self.topology
        except InputError as error:
            raise InputError(f"pad_for: {error}") from error
        for rate in self.keep_rates:
            if not 0 < rate <= 1:
                raise InputError(f"keep_rates must be in (0, 1], not {rate}")
        if len(set(self.keep_rates)) < len(self.keep_rates):
            raise InputError("keep_rates must differ")
        needs_budget = self.search == "budget" or self.search in DIMENSION_RULES
        if needs_budget and not self.has_budget:
            raise InputError(
                f"search={self.search} needs a budget: max_table_parameters, max_table_bytes or "
                "max_bundle_bytes"
            )
        if self.max_bundle_bytes is not None and self._counts_tables:
            raise InputError(
                "max_bundle_bytes bounds the bundle, which holds no padded table; leave out "
                "max_table_bytes, max_table_parameters, pad_dims_to and pad_for, or it"
            )
        if self.search == "paper" and (self.has_budget or self.keep_rates):
            raise InputError(
                "search=paper knows neither budget nor keep_rates; use search=budget or pareto"
            )

    @property
    def topology(self) -> Topology | None:
        """The chips that tables are counted for, if any."""
        return topology_of(self.pad_for) if self.pad_for else None

    @property
    def dims_multiple(self) -> int:
        """What a table's dimension is paid for as a multiple of."""
        return self.pad_dims_to if self.topology is None else self.topology.lanes

    @property
    def rows_multiple(self) -> int:
        """What the rows of a field are paid for as a multiple of."""
        return 1 if self.topology is None else self.topology.padded(1, 1)[0]

    @property
    def strategy(self) -> str:
        """``search``, decided."""
        if self.search != "auto":
            return self.search
        return "budget" if self.has_budget else "paper"

    @property
    def has_budget(self) -> bool:
        """Whether there is a limit of any kind."""
        return self.limit is not None or self.max_bundle_bytes is not None

    @property
    def draws_bundles(self) -> bool:
        """Whether a front is of bundles, and not of tables."""
        return self.strategy == "pareto" and not self._counts_tables

    @property
    def _counts_tables(self) -> bool:
        return self.limit is not None or self.pad_dims_to != 1 or self.pad_for is not None

    @property
    def limit(self) -> int | None:
        """Parameters that the table may have; None without a budget of the table."""
        limits = []
        if self.max_table_parameters is not None:
            limits.append(self.max_table_parameters)
        if self.max_table_bytes is not None:
            limits.append(self.max_table_bytes // BYTES_PER_PARAMETER)
        return min(limits) if limits else None
