"""How a run keeps to its budget: what --max_bundle_bytes leaves to rows and dimensions, planned
before anything is trained.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.run import flags
from experiments.run.bundle_rows import parameters
from experiments.run.report import flags_of
from experiments.run.search_setup import least_rows
from experiments.run.settings import Settings
from optembed_jax import data
from optembed_jax.data.prepared import encoder_of
from optembed_jax.errors import BudgetError, InputError
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.parameter_count import rows_in_budget
from optembed_jax.rivals.registry import OPTEMBED, rival_of
from optembed_jax.serving.bundle_writer import Provenance
from optembed_jax.serving.kept_table import RowsAndDims
from optembed_jax.serving.planned_bytes import STORAGE, BundleCost, cost_of
from optembed_jax.table.topology import rounded

_OF_AN_ESTIMATE = 0.03
"""By how much a bundle may be larger than is reckoned."""

_LEAST_IN = ("int2_field", STORAGE, "float32")
"""In which a bundle takes least: of a small table fewer bits are more bytes, of what reads them."""

_METRIC, _WORTH = 0.12345678901234568, -0.12345
"""Numbers whose texts are as long as those of metrics, and of what fields are worth, may be."""

_WIDE_LIMIT = 10**9
"""Bytes: a limit with as many digits as nearly all have."""

_METRICS = ("auc", "logloss", "calibration")

_SHARES = (1, 2, 4)
"""Rows to choose from are those that the limit pays for at so many times fewer columns."""

_CHOOSES_ROWS = ("budget", "random", "pareto")
"""Strategies that can choose rows too."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run keeps to.

    Attributes:
      settings: of the run.
      cost: of a bundle; None where tables are counted, or nothing is chosen.
      mask_columns: at how many columns the bundle is to have room for the rows of each of
        ``keep_rates``; empty where those say how many rows there are.
    """

    settings: Settings
    cost: BundleCost | None = None
    mask_columns: tuple[int, ...] = ()


def planned(settings: Settings, prepared: data.PreparedData, *, is_over: bool = False) -> Plan:
    """The settings with what a budget leaves open decided, and what a bundle costs.

    Where dimensions are searched, rows that were asked for otherwise (``--row_keep``,
    ``--keep_rates``) stay so, as far as there is room for one column each, and else the search has
    several shares of them to choose from, under a limit of the table too; where dimensions are not
    searched, there are no more rows than the limit pays for, see :func:`cut_rows`. How many that
    is, is known when they have scores (``bundle_rows``). A front without any limit is of bundles
    too.

    Args:
      settings: as they were asked for.
      prepared: the data set.
      is_over: whether the run is finished; then no limit is refused any more.

    Raises:
      BudgetError: the limit is below the smallest bundle.
      InputError: nothing here can keep to it.
    """
    options, model, fields = settings.search_options, settings.model, prepared.fields
    limit = options.max_bundle_bytes
    draws_front = model.searches_dims and options.draws_bundles and not settings.keeps_shape
    if (limit is None and not draws_front) or model.mode == "none":
        return Plan(_with_rates_of_table(settings, fields))
    if model.learns_thresholds and not model.searches_dims:
        raise InputError(
            f"mode=feature with mode_threshold={model.mode_threshold} cannot plan for "
            "--max_bundle_bytes; leave it out here, and give it to experiments.export, which keeps "
            "to it by fewer bits"
        )
    cost = _cost(settings, prepared, STORAGE)
    if limit is None:
        return Plan(settings, cost)
    if not is_over and not (settings.keeps_shape and model.searches_dims):
        _check(limit, cost, settings, fields)
    if settings.method != OPTEMBED:  # Its phase ``choose`` plans, see ``rival_plan``.
        return Plan(settings)
    if not model.searches_dims:
        return Plan(dataclasses.replace(settings, model=_with_all_rows(model, fields)), cost)
    if not _leaves_rows_open(settings) or settings.keeps_shape:
        return Plan(settings, cost)
    sizes, columns = np.array(fields.sizes, np.int64), _columns(model)
    affordable = [cost.affordable_rows(limit, sizes, dim) for dim in columns]
    counts = [_rounded(count, fields.num_fields) for count in affordable]
    settings = _with_rates(settings, counts, fields)
    # Of counts that come to the same, as all that there are, the first has the most columns.
    most: dict[int, int] = {}
    for count, dim in zip(counts, columns, strict=True):
        most.setdefault(min(count, fields.num_features), dim)
    return Plan(settings, cost, tuple(most.values()))


def check_shape(settings: Settings, prepared: data.PreparedData, kept: RowsAndDims) -> None:
    """Refuses a limit that the rows and dimensions of an earlier run cannot keep to in any bits.

    Raises:
      BudgetError: it is below their smallest bundle, or their table.
    """
    limit, of_table = settings.search_options.max_bundle_bytes, settings.search_options.limit
    taken = parameters(kept.rows, kept.dims, prepared.fields)
    if of_table is not None and taken > of_table:
        raise BudgetError(
            f"a table of at most {of_table:,} parameters cannot be had: with the dimensions of the "
            f"earlier run, which --keep_shape keeps, {int(kept.rows.sum()):,} rows are {taken:,}; "
            "raise the limit, or leave out --keep_shape"
        )
    if limit is None:
        return
    least = min(
        cost.told(cost.of_rows(kept.rows, kept.dims, prepared.fields))
        for cost in (_cost(settings, prepared, storage, kept.dims) for storage in _LEAST_IN)
    )
    if limit < least:
        raise BudgetError(
            f"--max_bundle_bytes={limit:,} cannot be kept: with the dimensions of the earlier run, "
            f"which --keep_shape keeps, a bundle of {int(kept.rows.sum()):,} rows takes about "
            f"{least:,} bytes; raise it, or leave out --keep_shape"
        )


def shaped(plan: Plan, prepared: data.PreparedData, dims: np.ndarray) -> Plan:
    """A plan that reckons with the dimensions int ``[F]`` of an earlier run."""
    if plan.cost is None:
        return plan
    return dataclasses.replace(plan, cost=_cost(plan.settings, prepared, STORAGE, dims))


def _cost(
    settings: Settings,
    prepared: data.PreparedData,
    storage: str,
    dims: np.ndarray | None = None,
) -> BundleCost:
    """What a bundle costs, in a storage where none is asked for; ``dims`` as of ``cost_of``."""
    model, fields, limit = settings.model, prepared.fields, settings.search_options.max_bundle_bytes
    has_own_ids = not model.prunes_rows or model.shares_stand_in
    has_own_ids &= model.mode_linear == "prune" or not model.has_linear_term
    is_told = settings.storage not in (None, "auto")
    cost = cost_of(
        model,
        fields,
        encoder_of(prepared),
        own_ids=has_own_ids,
        storage=settings.storage if settings.storage is not None and is_told else storage,
        told=provenance_of(_as_it_will_be_told(settings, fields), prepared),
        dims=dims,
    )
    if limit is None or not is_told:
        return cost
    # No bits are left to the export to keep to the limit by.
    return dataclasses.replace(cost, fixed=cost.fixed + int(_OF_AN_ESTIMATE * limit))


def _columns(model: ModelConfig) -> list[int]:
    """At how many columns the limit pays for the rows that a search chooses from."""
    return [max(model.latent_dim // share, 1) for share in _SHARES]


def _leaves_rows_open(settings: Settings) -> bool:
    """Whether a search under a budget may choose how many rows there are."""
    model, options = settings.model, settings.search_options
    return model.has_row_budget and model.row_keep is None and not options.keep_rates


def _with_rates_of_table(settings: Settings, fields: Fields) -> Settings:
    """The settings with shares of the rows that a limit of the table pays for."""
    model, options = settings.model, settings.search_options
    searches = settings.method == OPTEMBED and model.searches_dims and not settings.keeps_shape
    may_choose = searches and options.strategy in _CHOOSES_ROWS and _leaves_rows_open(settings)
    if options.limit is None or not may_choose:
        return settings
    paid = [rounded(dim, options.dims_multiple) for dim in _columns(model)]
    affordable = [options.limit // dim for dim in paid]
    least = fields.num_fields if model.shares_stand_in else 1
    return _with_rates(settings, [max(count, least) for count in affordable], fields)


def _with_rates(settings: Settings, counts: Sequence[int], fields: Fields) -> Settings:
    """The settings with so many rows to choose from."""
    whole = fields.num_features
    rates = tuple(dict.fromkeys(min(count / whole, 1.0) for count in counts))
    options = dataclasses.replace(settings.search_options, keep_rates=rates)
    return dataclasses.replace(settings, search_options=options)


def cut_rows(asked: Settings, cost: BundleCost | None, fields: Fields) -> str | None:
    """What to tell where fewer rows than were asked for will be kept; None where they will not."""
    model, limit = asked.model, asked.search_options.max_bundle_bytes
    given = [
        f"--{name}={value}"
        for name in ("row_keep", "max_table_bytes")
        if (value := getattr(model, name)) is not None
    ]
    if cost is None or limit is None or model.searches_dims or not given:
        return None
    wanted, sizes = rows_in_budget(model, fields), np.array(fields.sizes, np.int64)
    if wanted == fields.num_features:  # As a plan says it that leaves it to the bytes.
        return None
    left = _rounded(cost.affordable_rows(limit, sizes, model.latent_dim), fields.num_fields)
    if left >= wanted:
        return None
    return (
        f"{' with '.join(given)} asks for {wanted:,} rows, and --max_bundle_bytes={limit:,} has "
        f"room for about {left:,}: the best are kept, as many as fit"
    )


def provenance_of(settings: Settings, prepared: data.PreparedData) -> Provenance:
    """What a bundle of the run will tell of itself, in as many characters, before it is trained."""
    model, names = settings.model, ["auc", "logloss", "unseen"]
    if model.has_row_budget and model.budget_score == "taylor":
        names.append("saliency")
    return Provenance(
        {"name": settings.dataset, "fingerprint": prepared.fingerprint},
        {f"{split}_{name}": _METRIC for split in ("val", "test") for name in _METRICS},
        flags.given(flags_of(settings)),
        dict.fromkeys(names, [_WORTH] * prepared.fields.num_fields),
    )


def _as_it_will_be_told(settings: Settings, fields: Fields) -> Settings:
    """Settings with the budget of rows that a plan adds to them, as wide as it could be; and the
    limit itself, so that the least that is told is the least whatever limit is asked for.

    A run that goes on, and its export, have been given the plan's own: with it or without, what is
    planned has to be the same.
    """
    limit = settings.search_options.max_bundle_bytes
    if limit is None:
        return settings
    wide = dataclasses.replace(settings.search_options, max_bundle_bytes=max(limit, _WIDE_LIMIT))
    settings = dataclasses.replace(settings, search_options=wide)
    if settings.method != OPTEMBED or settings.model.searches_dims:
        return settings
    most = 4 * settings.model.latent_dim * 2 * fields.num_features
    model = dataclasses.replace(settings.model, max_table_bytes=most)
    return dataclasses.replace(settings, model=model)


def _check(limit: int, cost: BundleCost, settings: Settings, fields: Fields) -> None:
    """Refuses a limit that no choice could keep to.

    Raises:
      BudgetError: it is below the smallest bundle.
    """
    model, options = settings.model, settings.search_options
    sizes, rival = np.array(fields.sizes, np.int64), rival_of(settings.method)
    rows = np.ones(len(sizes))
    if rival is not None and rival.kept is not RowsAndDims:
        rows = np.zeros(len(sizes))
    elif model.searches_dims and not model.learns_thresholds:
        is_told = not model.has_row_budget or model.row_keep is not None or options.keep_rates
        if is_told:
            # Which rows is not known yet: as many of each field as of all.
            rows = np.maximum(sizes * (least_rows(model, options, fields) / sizes.sum()), 1)
    dim = 1 if model.searches_dims else model.latent_dim
    dims = np.full(len(sizes), dim)
    numbers = cost.numbers(rows + cost.vectors, dims)
    if rival is None and not model.prunes_rows:  # Which are kept is known: all.
        numbers = cost.of_rows(np.ones(fields.num_features, bool), dims, fields)
    least = cost.told(numbers)
    if limit < least:
        kept = f"{int(rows.sum()):,} rows in {len(sizes)} fields with {_columns_told(dim)}"
        raise BudgetError(
            f"--max_bundle_bytes={limit:,} cannot be kept: the smallest bundle of this model, of "
            f"{kept if rows.any() else 'its network and vocabulary alone'}, takes about "
            f"{least:,} bytes, {cost.fixed:,} of them for all that is neither rows nor columns; "
            f"raise it, or lower {_may_be_lowered(model)}"
        )


def _columns_told(dim: int) -> str:
    return "one column each" if dim == 1 else f"{dim} columns each"


def _may_be_lowered(model: ModelConfig) -> str:
    """The flags that a smaller bundle can be had by, of those that this model takes."""
    if model.has_row_budget:
        return "--mlp_dims, --latent_dim or --row_keep"
    return "--mlp_dims or --latent_dim"


def _rounded(count: int, least: int) -> int:
    """Two digits of a number of rows, rounded down: the estimate is no better."""
    unit = 10 ** max(len(str(count)) - 2, 0)
    return max(count // unit * unit, least)


def _with_all_rows(model: ModelConfig, fields: Fields) -> ModelConfig:
    """A model that may keep all rows, where nothing but the bytes of the bundle says how many."""
    if model.row_keep is not None or model.max_table_bytes is not None:
        return model
    rows = fields.num_features + (fields.num_fields if model.mode_oov == "oov" else 0)
    return dataclasses.replace(model, max_table_bytes=4 * model.latent_dim * rows)
