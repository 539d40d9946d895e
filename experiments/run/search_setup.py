"""A search as the flags describe it: what may be chosen, how it is scored, and who searches."""

import dataclasses
import functools

import jax
import numpy as np

from experiments.run.bundle_rows import best_rows, is_bounded, uniform
from experiments.run.earlier_run import SCORES
from experiments.run.records import run_again
from experiments.run.search_options import SearchOptions
from experiments.run.trained import Run, Trained, cut_to, load_trained
from optembed_jax.devices.choice import choose
from optembed_jax.errors import BudgetError, InputError
from optembed_jax.fields import Fields
from optembed_jax.fitness.candidate_devices import over_devices, rows_read
from optembed_jax.fitness.masked import over_masks
from optembed_jax.fitness.validation_fitness import ValidationFitness, make_fitness
from optembed_jax.method.bag import bags_of
from optembed_jax.method.threshold import by_block, row_norm
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.parameter_count import rows_in_budget
from optembed_jax.search import budget
from optembed_jax.search.dimension_rules import DIMENSION_RULES
from optembed_jax.search.loop import Merit, SearchConfig, Searcher, best_fitness
from optembed_jax.search.searchers import (
    Evolution,
    GivenCandidates,
    ParetoEvolution,
    RandomSearch,
)
from optembed_jax.search.space import SearchSpace
from optembed_jax.search.surrogate_assisted import SurrogateAssistedEvolution
from optembed_jax.storage import array_file
from optembed_jax.table.score import keep_best
from optembed_jax.table.stand_in import always_kept

MASKS = "masks.safetensors"
"""In the search's folder: how many rows each mask keeps, where the bundle's bytes bound them."""

FRONT_SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
"""Of the largest table: sizes at which a front starts from the simple rules."""


@dataclasses.dataclass(frozen=True)
class Masks:
    """The row masks to choose from.

    Attributes:
      rows: bool ``[V]`` of each; None of one that keeps every row because the mode prunes none.
      keep_rates: the share of the rows that each keeps; None of the supernet's own.
    """

    rows: tuple[np.ndarray | None, ...]
    keep_rates: tuple[float | None, ...]


def masks_of(run: Run, supernet: Trained) -> Masks:
    """The supernet's rows, or those of each of ``--keep_rates`` by the score that it gathered."""
    model, options = run.settings.model, run.settings.search_options
    if not model.prunes_rows:
        return Masks((None,), (None,))
    if not options.keep_rates and not is_bounded(run):
        return Masks((supernet.rows,), (None,))
    fields = run.prepared.fields
    if model.learns_thresholds:
        scores = _margins(model, supernet, fields)
    else:
        path = run.workdir.phase_dir("supernet") / SCORES
        scores = array_file.load(path, run_again(path.parent))["scores"]
    least = 1
    if model.shares_stand_in:
        scores, least = always_kept(scores, fields), fields.num_fields
    wanted = [max(least, round(rate * len(scores))) for rate in options.keep_rates]
    counts = _counts_in_bundle(run, supernet, scores, wanted) if is_bounded(run) else wanted
    rates: list[float | None] = [None]
    if options.keep_rates:
        rates = [
            rate if count == told else count / len(scores)
            for rate, told, count in zip(options.keep_rates, wanted, counts, strict=True)
        ]
    return Masks(tuple(keep_best(scores, count) for count in counts), tuple(rates))


def _counts_in_bundle(
    run: Run, supernet: Trained, scores: np.ndarray, wanted: list[int]
) -> list[int]:
    """How many rows each mask keeps, of so many that were wanted, under a limit of the bundle's
    bytes: no more than it has room for with one column each, or with as many as were planned.

    A search goes on with those that it was begun with: what a bundle tells of a run is among its
    bytes, and may be other flags later.
    """
    model, num_fields = run.settings.model, run.prepared.fields.num_fields
    path = run.workdir.phase_dir("search") / MASKS
    if path.exists():
        found = array_file.load(path, run_again(path.parent))["rows"]
        return [int(count) for count in found]
    if wanted and run.workdir.result("search") is not None:  # By an older build, which cut no more.
        return wanted
    if run.mask_columns:  # What was planned reckons with rows like all rows.
        most = [(len(scores), columns) for columns in run.mask_columns]
    else:
        most = [(count, 1) for count in wanted or [int(supernet.rows.sum())]]
    return [
        int(best_rows(run, scores, count, uniform(model, num_fields, columns)).sum())
        for count, columns in most
    ]


def _margins(model: ModelConfig, supernet: Trained, fields: Fields) -> np.ndarray:
    """How far the norm of each row is above its threshold, float64 ``[V]``."""
    thresholds = np.asarray(supernet.params.thresholds, np.float64)
    if model.mode_threshold == "field":
        thresholds = thresholds[fields.field_of_row]
    norm = functools.partial(row_norm, order=model.norm)
    return by_block(norm, supernet.params.table.rows).astype(np.float64) - thresholds


def space_of(run: Run, masks: Masks, limit: int | None) -> SearchSpace:
    """Dimensions, and masks where there are several; a vector that pruned ids read counts.

    Rows count as the hardware stores them that the search is for; or as a bundle has them, where
    those are counted.

    Raises:
      BudgetError: the limit is below the smallest bundle.
    """
    model, fields = run.settings.model, run.prepared.fields
    options = run.settings.search_options
    beside = 1 if model.prunes_rows and model.mode_oov == "oov" else 0
    rows = [
        np.array(fields.sizes, np.int64) if mask is None else fields.rows_per_field(mask)
        for mask in masks.rows
    ]
    cost = run.bundle_cost
    if cost is not None:
        counted, every = np.stack(rows) + beside, np.ones(fields.num_features, bool)
        left = [cost.beside(every if mask is None else mask, fields) for mask in masks.rows]
        if limit is not None:
            least = min(
                own + int((of_mask + cost.per_dim).sum())
                for own, of_mask in zip(left, counted, strict=True)
            )
            if limit < least:
                wanted = options.max_bundle_bytes or cost.told(limit)
                raise BudgetError(
                    f"--max_bundle_bytes={wanted:,} cannot be kept: with one column for each field "
                    f"the rows that are kept take about {cost.told(least):,} bytes; raise it, or "
                    "keep fewer rows (--row_keep, --keep_rates)"
                )
        return SearchSpace(
            counted, model.latent_dim, limit, per_dim=cost.per_dim, beside=tuple(left)
        )
    return SearchSpace(
        budget.padded(np.stack(rows) + beside, options.rows_multiple),
        model.latent_dim,
        limit,
        options.dims_multiple,
    )


def limit_of(run: Run) -> int | None:
    """What a candidate of the run's search may cost; None does not bound it."""
    options = run.settings.search_options
    if options.max_bundle_bytes is None or run.bundle_cost is None:
        return options.limit
    return run.bundle_cost.limit(options.max_bundle_bytes)


def fitness_of(
    run: Run, supernet: Trained, masks: Masks, space: SearchSpace, measure: str
) -> ValidationFitness:
    """The supernet's judgement of candidates on the validation rows, by the devices that train.

    By ``measure``: ``auc`` or ``logloss``.
    """
    settings = run.settings
    ids, labels = run.prepared.arrays("validation")
    weights = run.prepared.weights_of("validation")
    bags = bags_of(run.prepared.fields, settings.model.pooling)
    devices = jax.local_devices()
    choice = choose(settings.parallelism, settings.model, settings.train, run.prepared.fields)
    if choice.kind == "one":
        devices = devices[:1]
    else:
        run.progress.say(f"search  candidates sharded over {choice.devices} devices")

    def under(mask: np.ndarray | None) -> ValidationFitness:
        params = supernet.params
        if mask is not None and settings.model.shares_stand_in:
            params, mask = cut_to(run, supernet, mask), None
        read, rows, places = rows_read(params, mask, ids, run.prepared.fields.num_slots)

        def on(device: jax.Device) -> ValidationFitness:
            params, batch_stats = jax.device_put((read, supernet.batch_stats), device)
            return make_fitness(
                settings.model,
                params,
                batch_stats,
                rows,
                places,
                labels,
                weights,
                measure=measure,
                candidates_per_pass=settings.candidates_per_pass,
                bags=bags,
            )

        return over_devices(on, devices)

    by_mask = [under(mask) for mask in masks.rows]
    return by_mask[0] if len(by_mask) == 1 else over_masks(space, by_mask)


def searcher_of(
    options: SearchOptions,
    config: SearchConfig,
    space: SearchSpace,
    before: np.ndarray | None = None,
) -> tuple[Searcher, SearchConfig, Merit]:
    """Who searches, how long, and what early stopping goes by.

    Dimensions int ``[F]`` that were chosen ``before``, on an earlier log, are where an evolution
    starts, beside the simple rules.
    """
    strategy = options.strategy
    start = np.zeros((0, len(space.limits)), np.int32) if before is None else space.near(before)

    def with_rules(limits: tuple[int | None, ...]) -> np.ndarray:
        every = np.concatenate([start, space.rule_candidates(limits)])
        return every[np.sort(np.unique(every, axis=0, return_index=True)[1])]

    if strategy == "paper":
        nobody = np.zeros((0, len(space.limits)), np.int32)
        endless = dataclasses.replace(config, search_patience=0)
        return Evolution(space, config, nobody, halving=False), endless, best_fitness
    if strategy == "budget":
        seeds = with_rules((space.limit,))
        return SurrogateAssistedEvolution(space, config, seeds), config, best_fitness
    if strategy == "random":
        return RandomSearch(space, config), config, best_fitness
    if strategy == "pareto":
        sizes = tuple(int(share * space.size_range[1]) for share in FRONT_SHARES)
        front = ParetoEvolution(space, config, with_rules(sizes))
        return front, config, front.merit
    rule = space.rule_candidates((space.limit,), (strategy,))
    return GivenCandidates(rule), config, best_fitness


def check_budget(model: ModelConfig, options: SearchOptions, fields: Fields) -> None:
    """Refuse a budget that cannot be met, as far as that is known before the supernet is trained.

    Raises:
      InputError: the smallest table is larger.
    """
    if not model.searches_dims or options.limit is None:
        return
    if model.learns_thresholds and not options.keep_rates:
        return
    count = least_rows(model, options, fields)
    # Which rows is not known yet, and need not be: with one dimension each, only their number. Of
    # every field at least one block of them is paid for.
    count = max(count, fields.num_fields * options.rows_multiple)
    budget.check_limit(np.array([count]), options.limit, options.dims_multiple)


def least_rows(model: ModelConfig, options: SearchOptions, fields: Fields) -> int:
    """Rows of the smallest mask that a search may choose, where thresholds do not say which."""
    if options.keep_rates and model.prunes_rows:
        return max(1, round(min(options.keep_rates) * fields.num_features))
    return rows_in_budget(model, fields)


def rule_names(space: SearchSpace, limit: int) -> list[tuple[str, np.ndarray]]:
    """Each simple rule's candidates int32 ``[n, G]`` at a limit."""
    return [(rule, space.rule_candidates((limit,), (rule,))) for rule in DIMENSION_RULES]


def supernet_of(run: Run) -> Trained:
    """The model that judges.

    Raises:
      InputError: there are keep rates to choose from, and no scores to choose rows by.
    """
    options = run.settings.search_options
    if options.keep_rates and not run.settings.model.prunes_rows:
        raise InputError(
            f"keep_rates choose rows, which mode {run.settings.model.mode!r} does not prune; "
            "use mode all"
        )
    return load_trained(run, "supernet", on_host=True)
