"""What a training begins with, and in which form its model is trained."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from experiments.run.phase_devices import devices_for
from experiments.run.records import run_again
from experiments.run.trained import Run, abstract, click_rate, key_of
from optembed_jax import data
from optembed_jax.models.params import Params, init_params
from optembed_jax.models.selection import Reading
from optembed_jax.rivals.registry import OPTEMBED
from optembed_jax.search.host_random import generator
from optembed_jax.serving.kept_table import Cut, KeptTable
from optembed_jax.step.optimiser_memory import OptimiserMemory
from optembed_jax.step.train_step import Phase
from optembed_jax.storage import saved_state
from optembed_jax.table import carry, stand_in
from optembed_jax.table.memory import rows_of_table

_OF_COLUMNS = 1
"""Folded into a phase's key: draws that are not those of its steps."""


@dataclasses.dataclass(frozen=True)
class Start:
    """Parameters and batch statistics that training begins with; without either, fresh ones.

    Attributes:
      make: makes them, where they are to stand.
      given: arrays, on the host.
      memory: what optimisers remember of the full model; None where they know nothing.
      told: what is recorded of where it is from.
    """

    make: Callable[[], tuple[Params, Any]] | None = None
    given: Any = None
    memory: OptimiserMemory | None = None
    told: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Form:
    """In which form a full model is trained.

    Attributes:
      kept: what is kept, of a retraining; None where nothing is frozen.
      cut: places of its rows, how it is saved, and how its network is cut.
      settled: trained parameters with the stand-ins of what has no row.
    """

    kept: KeptTable | None
    cut: Cut
    settled: Callable[[Params], Params]


def whole_form(run: Run, frozen: Reading) -> Form:
    """That of a full model, which reads ``frozen`` of its table."""
    places = rows_of_table(run.prepared.fields, run.settings.model.latent_dim)
    nothing: Any = None
    cut = Cut(nothing, frozen, places, lambda params: params, lambda params, settle: params)
    return Form(None, cut, functools.partial(_settled, run.prepared))


def warm_start(run: Run, phase: str, kept: KeptTable | None = None) -> Start | None:
    """The start of a phase that an earlier run gives; None begins from nothing.

    Of a retraining ``kept`` is what it keeps.
    """
    if run.warm is None:
        return None
    begun, model = run.warm.beginning(phase), run.settings.model
    params = begun.params
    if model.reads_products:
        rows = kept.rows if kept is not None and model.prunes_rows else None
        table = carry.with_columns_begun(
            params.table,
            run.prepared.fields,
            generator(jax.random.fold_in(key_of(run, phase), _OF_COLUMNS)),
            rows,
            None if kept is None else kept.dims,
        )
        params = dataclasses.replace(params, table=table)
    if begun.memory is None and begun.name != "bundle":
        run.progress.say(
            f"{phase}  note: moments start anew: the earlier run left none that are of this run's "
            "--table_optimiser and --row_decay"
        )
    return Start(
        given=(params, begun.batch_stats),
        memory=begun.memory,
        told={"from": begun.name, "moments": begun.memory is not None},
    )


def retraining_start(run: Run) -> tuple[Params, Any]:
    """What retraining begins with, of the full model, on the host."""
    model, fields = run.settings.model, run.prepared.fields
    is_rival = run.settings.method != OPTEMBED
    if is_rival or run.settings.retrain_from == "fresh":
        (init_key, _), rate = jax.random.split(key_of(run, "retrain")), click_rate(run)
        if run.settings.retrain_from != "fresh":
            # What a supernet of this seed would start from: a rival has none.
            init_key = key_of(run, "supernet")
        devices = devices_for(run, Phase.RETRAIN, None)
        made: tuple[Params, Any] = devices.made_on_host(
            lambda: init_params(init_key, model, fields, rate)
        )
        return made
    like = dict(zip(("params", "batch_stats"), abstract(model, fields), strict=True))
    place = run.workdir.phase_dir("supernet") / "initial"
    initial = saved_state.restore(place, like, on_host=True, way_out=run_again(place.parent))
    return initial["params"], initial["batch_stats"]


def _settled(prepared: data.PreparedData, params: Params) -> Params:
    """Full parameters with a stand-in in each OOV row that was hardly trained."""
    table = stand_in.reckoned(
        params.table, prepared.fields, prepared.counts, weights=prepared.weight_of_values
    )
    return params if table is params.table else dataclasses.replace(params, table=table)
