"""How a run keeps to its budget: how many rows, and for --max_bundle_bytes what dimensions cost."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.run import flags
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

_METRIC, _WORTH = 0.12345678901234568, -0.12345
"""Numbers whose texts are as long as those of metrics, and of what fields are worth, may be."""

_METRICS = ("auc", "logloss", "calibration")

_SHARES = (1, 2, 4)
"""Rows to choose from are those that the limit pays for at so many times fewer columns."""

_CHOOSES_ROWS = ("budget", "random", "pareto")
"""Strategies that can choose rows too."""


def planned(settings: Settings, prepared: data.PreparedData) -> tuple[Settings, BundleCost | None]:
    """The settings with as many rows as the bundle has room for, and what a bundle costs.

    Where dimensions are searched, rows that were asked for otherwise (``--row_keep``,
    ``--keep_rates``) stay so, and else the search has several shares of them to choose from, under
    a limit of the table too; where dimensions are not searched, there are no more rows than the
    limit pays for, see :func:`cut_rows`. A front without any limit is of bundles too. The cost is
    None where tables are counted, or nothing is chosen: so where the shape of an earlier run is
    kept, but for its number of rows.

    Raises:
      BudgetError: the limit is below the smallest bundle.
      InputError: nothing here can keep to it.
    """
    options, model, fields = settings.search_options, settings.model, prepared.fields
    limit = options.max_bundle_bytes
    is_chosen = _chooses(settings)
    draws_front = model.searches_dims and options.draws_bundles
    if (limit is None and not draws_front) or not is_chosen or model.mode == "none":
        return _with_rates_of_table(settings, fields), None
    if model.learns_thresholds and not model.searches_dims:
        raise InputError(
            f"mode=feature with mode_threshold={model.mode_threshold} cannot plan for "
            "--max_bundle_bytes; leave it out here, and give it to experiments.export, which keeps "
            "to it by fewer bits"
        )
    has_own_ids = not model.prunes_rows or model.shares_stand_in
    has_own_ids &= model.mode_linear == "prune" or not model.has_linear_term
    is_told = settings.storage not in (None, "auto")
    storage = settings.storage if settings.storage is not None and is_told else STORAGE
    cost = cost_of(
        model,
        fields,
        encoder_of(prepared),
        own_ids=has_own_ids,
        storage=storage,
        told=provenance_of(_as_it_will_be_told(settings, fields), prepared),
    )
    if limit is None:
        return settings, cost
    if is_told:  # No bits are left to the export to keep to the limit by.
        cost = dataclasses.replace(cost, fixed=cost.fixed + int(_OF_AN_ESTIMATE * limit))
    sizes = np.array(fields.sizes, np.int64)
    _check(limit, cost, settings, fields)
    if settings.method != OPTEMBED:  # Its phase ``choose`` plans, see ``rival_plan``.
        return settings, None
    if not model.searches_dims:
        count = _rounded(cost.affordable_rows(limit, sizes, model.latent_dim), fields.num_fields)
        return dataclasses.replace(settings, model=_with_rows(model, count, len(sizes))), cost
    if _leaves_rows_open(settings):
        affordable = [cost.affordable_rows(limit, sizes, dim) for dim in _columns(model)]
        counts = [_rounded(count, fields.num_fields) for count in affordable]
        settings = _with_rates(settings, counts, fields)
    return settings, cost


def _chooses(settings: Settings) -> bool:
    """Whether there is anything to choose by what a bundle costs: of a shape that is kept, rows."""
    model = settings.model
    return not settings.keeps_shape or (model.has_row_budget and not model.searches_dims)


def left_to_export(settings: Settings) -> str | None:
    """What to tell where a limit of the bundle says nothing to a run; None where it does."""
    limit = settings.search_options.max_bundle_bytes
    if limit is None or _chooses(settings):
        return None
    return (
        f"--keep_shape keeps rows and dimensions whatever --max_bundle_bytes={limit:,} has room "
        "for (of --mode=feature and a budget of rows it keeps fewer rows): the export keeps to it "
        "by fewer bits, or refuses"
    )


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


def cut_rows(asked: Settings, planned: Settings, fields: Fields) -> str | None:
    """What to tell where a plan keeps fewer rows than were asked for; None where it does not."""
    model = asked.model
    given = [
        f"--{name}={value}"
        for name in ("row_keep", "max_table_bytes")
        if (value := getattr(model, name)) is not None
    ]
    if planned.model == model or not given:
        return None
    wanted, left = (rows_in_budget(each, fields) for each in (model, planned.model))
    if left >= wanted:
        return None
    return (
        f"{' with '.join(given)} asks for {wanted:,} rows, and "
        f"--max_bundle_bytes={asked.search_options.max_bundle_bytes:,} has room for {left:,}: so "
        "many are kept"
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
    """Settings with the budget of rows that a plan adds to them, as wide as it could be.

    A run that goes on, and its export, have been given the plan's own: with it or without, what is
    planned has to be the same.
    """
    is_planned = settings.method == OPTEMBED and not settings.model.searches_dims
    if settings.search_options.max_bundle_bytes is None or not is_planned:
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
    least = int(np.ceil(cost.bytes(rows, np.full(len(sizes), dim))))
    if limit < least:
        raise BudgetError(
            f"--max_bundle_bytes={limit:,} cannot be kept: the smallest bundle of this model, of "
            f"{int(rows.sum()):,} rows in {len(sizes)} fields with {dim} columns each, takes about "
            f"{least:,} bytes, {cost.fixed:,} of them for all that is neither rows nor columns; "
            "raise it, or lower --mlp_dims, --latent_dim or --row_keep"
        )


def _rounded(count: int, least: int) -> int:
    """Two digits of a number of rows, rounded down: the estimate is no better."""
    unit = 10 ** max(len(str(count)) - 2, 0)
    return max(count // unit * unit, least)


def _with_rows(model: ModelConfig, count: int, num_fields: int) -> ModelConfig:
    """A model whose budget of bytes pays for so many rows at most."""
    rows = count + (num_fields if model.mode_oov == "oov" else 0)
    pays = 4 * model.latent_dim * rows
    if model.max_table_bytes is not None:
        pays = min(pays, model.max_table_bytes)
    return dataclasses.replace(model, max_table_bytes=pays)
