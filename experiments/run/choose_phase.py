"""The phase ``choose``: which rows and dimensions a rival of OptEmbed keeps, before retraining.

It stands where OptEmbed has supernet and search. All else of a run is the same for every method.
"""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils.epath import Path

from experiments.run import processes
from experiments.run.rival_plan import counted_bytes, spend
from experiments.run.settings import Settings
from experiments.run.trained import (
    CHOICE,
    Run,
    Trained,
    abstract,
    chosen_by_rival,
    counts,
    load_trained,
)
from optembed_jax.errors import BudgetError, InputError
from optembed_jax.fields import Fields
from optembed_jax.method.threshold import by_block, row_norm
from optembed_jax.models.between import layer_of
from optembed_jax.models.parameter_count import rows_in_budget
from optembed_jax.rivals.registry import rival_of
from optembed_jax.rivals.rival import Relaxed, Task, check
from optembed_jax.search.budget import BYTES_PER_PARAMETER
from optembed_jax.serving.kept_table import KeptTable
from optembed_jax.storage import array_file


def choose(run: Run, folder: Path) -> dict[str, Any]:
    """Let the rival choose under the run's budget; the record of the phase.

    Raises:
      BudgetError: it cannot keep to it.
      InputError: whatever else it refuses.
    """
    settings, prepared = run.settings, run.prepared
    rival = rival_of(settings.method)
    assert rival is not None
    weights = prepared.weight_of_values

    def trained_norms() -> np.ndarray:
        rows = load_trained(run, "baseline", on_host=True).params.table.rows
        return by_block(
            lambda block: row_norm(jnp.asarray(block), settings.model.norm), rows
        ).astype(np.float64)

    def relaxed() -> Relaxed:
        params = load_trained(run, "supernet", on_host=True).params
        layer = {name: np.asarray(array) for name, array in layer_of(params.network).items()}
        return Relaxed(np.asarray(params.table.rows), layer)

    options = settings.search_options
    task = Task(
        fields=prepared.fields,
        reads=np.asarray(prepared.counts if weights is None else weights, np.float64),
        latent_dim=settings.model.latent_dim,
        limit=limit_of(settings, prepared.fields),
        keeps_stand_ins=settings.model.shares_stand_in,
        trained_norms=functools.cache(trained_norms),
        seed=settings.seed,
        relaxed=functools.cache(relaxed),
    )
    planned = {}
    if options.max_bundle_bytes is not None:
        spent = spend(
            lambda numbers: rival.choose(dataclasses.replace(task, limit=numbers)),
            counted_bytes(run),
            prepared.fields,
            task.limit,
            options.max_bundle_bytes,
            rival.name,
        )
        task = dataclasses.replace(task, limit=spent.numbers)
        planned = {
            "max_bundle_bytes": options.max_bundle_bytes,
            "planned_bundle_bytes": spent.folder_bytes,
        }
    choice = check(task, rival.choose(task))
    if processes.is_first():
        array_file.save(folder / CHOICE, choice.arrays())
    kept = counts(run, settings.model, _as_trained(run, choice))
    run.progress.say(
        f"choose  {rival.name}: {kept['table_parameters']:,} table parameters of at most "
        f"{task.limit:,}, read by {kept['rows_kept']:,} of {task.fields.num_features:,} values"
    )
    return {"method": rival.name, "limit": task.limit, **planned, **kept}


def limit_of(settings: Settings, fields: Fields) -> int:
    """Numbers that a rival's table may keep; under a limit of the bundle's bytes the most it could.

    Raises:
      BudgetError: it is below the rival's smallest table.
      InputError: no budget is given where none follows from the share of the rows; or the rival
        does not take what cells of the fields hold.
    """
    rival = rival_of(settings.method)
    several = [n for n, slots in zip(fields.names, fields.slots, strict=True) if slots > 1]
    if rival is not None and several and not rival.takes_several:
        raise InputError(
            f"--method={rival.name} prunes what a field reads of one row, and field {several[0]!r} "
            "has several values in a cell; --multi= makes each combination a value"
        )
    if settings.search_options.max_bundle_bytes is not None:
        free = settings.model.searches_dims or settings.model.row_keep is None
        rows = fields.num_features if free else rows_in_budget(settings.model, fields)
        return rows * settings.model.latent_dim
    if settings.model.searches_dims:
        limit = settings.search_options.limit
        if limit is None:
            raise InputError(
                f"--method={settings.method} keeps what a budget pays for, and needs a budget: "
                "--max_table_parameters, --max_table_bytes or --max_bundle_bytes"
            )
        if rival is not None:
            _check_least(settings, rival.least(fields, settings.model.latent_dim), limit)
        return limit
    return rows_in_budget(settings.model, fields) * settings.model.latent_dim


def _check_least(settings: Settings, least: int, limit: int) -> None:
    """Refuse a budget below a rival's smallest table, by the flags that gave it.

    Raises:
      BudgetError: it is.
    """
    if limit >= least:
        return
    given = [
        f"--{name}={value}"
        for name in ("max_table_parameters", "max_table_bytes")
        if (value := getattr(settings.search_options, name)) is not None
    ]
    raise BudgetError(
        f"{' with '.join(given)} cannot be kept by --method={settings.method}: its smallest table "
        f"of these fields is {least:,} parameters ({BYTES_PER_PARAMETER * least:,} bytes); raise "
        "it to that at least"
    )


def choice_of(run: Run) -> KeptTable:
    """What the phase left, to be retrained."""
    choice = chosen_by_rival(run)
    assert choice is not None
    return choice


def _as_trained(run: Run, choice: KeptTable) -> Trained:
    """A model as retraining will leave it; its parameters are shapes only."""
    shapes, batch_stats = abstract(run.settings.model, run.prepared.fields)
    return Trained(choice.saved_as(shapes), batch_stats, choice)
