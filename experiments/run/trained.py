"""A run, and a model as one of its phases leaves it to the next."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils.epath import Path, PathLike

from experiments.run.progress import Progress
from experiments.run.records import run_again
from experiments.run.settings import Settings
from experiments.run.workdir import PHASES, Workdir
from optembed_jax import data
from optembed_jax.fields import Fields
from optembed_jax.method.bag import bags_of
from optembed_jax.models.between import with_layer
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.parameter_count import count_parameters
from optembed_jax.models.params import Params, init_params
from optembed_jax.models.selection import Selection
from optembed_jax.rivals.registry import rival_of
from optembed_jax.serving.kept_table import KeptTable, RowsAndDims
from optembed_jax.serving.planned_bytes import BundleCost
from optembed_jax.storage import array_file, saved_state
from optembed_jax.table import stand_in
from optembed_jax.table.score import kept_by_frequency

CHOICE = "kept.safetensors"
"""What a rival keeps, in the folder of its phase ``choose``."""

OF_PRUNING = (
    "mode_threshold",
    "mode_oov",
    "mode_linear",
    "norm",
    "row_keep",
    "max_table_bytes",
    "row_score",
)
"""Settings of the model that say nothing where nothing is pruned."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What every phase works with.

    Attributes:
      settings: what the flags say.
      prepared: the data set.
      workdir: where results are kept.
      progress: tells a person how far it is.
      warm: the ``WarmStart`` that it begins with; None begins from nothing.
      bundle_cost: what a bundle takes, where that is counted; None counts tables.
      mask_columns: at how many columns the bundle is to have room for the rows of each of
        ``keep_rates``; empty where those say how many rows there are.
    """

    settings: Settings
    prepared: data.PreparedData
    workdir: Workdir
    progress: Progress
    warm: Any = None
    bundle_cost: BundleCost | None = None
    mask_columns: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model as a phase leaves it.

    Attributes:
      params, batch_stats: of the best epoch.
      kept: what is kept of it, in its form.
    """

    params: Params
    batch_stats: Any
    kept: KeptTable

    @property
    def rows(self) -> np.ndarray:
        """Rows kept, bool ``[V]``."""
        return self.kept.rows

    @property
    def dims(self) -> np.ndarray:
        """Columns kept, int32 ``[F]``."""
        return self.kept.dims

    def as_tree(self) -> dict[str, Any]:
        """The structure of what is saved."""
        return {
            "params": self.params,
            "batch_stats": self.batch_stats,
            "rows": jax.device_put(self.rows),
            "dims": jnp.asarray(self.dims, jnp.int32),
        }


def whole_table(run: Run) -> Selection:
    """How ids read a table of which nothing is frozen."""
    return Selection(bags=bags_of(run.prepared.fields, run.settings.model.pooling))


def cut_to(run: Run, trained: Trained, rows: np.ndarray) -> Params:
    """The parameters of a supernet with the stand-in of its field in each row that is pruned."""
    model, prepared = run.settings.model, run.prepared
    table = stand_in.cut(
        trained.params.table,
        prepared.fields,
        prepared.counts,
        rows,
        prunes_linear=model.mode_linear == "prune",
        weights=prepared.weight_of_values,
    )
    return dataclasses.replace(trained.params, table=table)


def load_trained(
    run: Run, phase: str, folder: Path | None = None, *, on_host: bool = False
) -> Trained:
    """The model that a finished training phase saved, or a training of it in another folder.

    ``on_host`` as in ``saved_state.restore``.
    """
    return read_trained(
        folder or run.workdir.phase_dir(phase),
        model_in(run.settings, phase),
        run.prepared.fields,
        chosen_by_rival(run) if phase == "retrain" else None,
        on_host=on_host,
    )


def read_trained(
    folder: PathLike,
    model: ModelConfig,
    fields: Fields,
    kept: KeptTable | None = None,
    *,
    on_host: bool = False,
) -> Trained:
    """The model that a training left in its folder.

    Args:
      folder: of the training.
      model: of its phase.
      fields: of its data.
      kept: what is kept of it; None takes the rows and dimensions that were saved with it.
      on_host: as in ``saved_state.restore``.

    Raises:
      InputError: it is missing or damaged.
    """
    params, batch_stats = abstract(model, fields)
    like = {
        "params": params if kept is None else kept.saved_as(params),
        "batch_stats": batch_stats,
        "rows": jax.ShapeDtypeStruct((fields.num_features,), jnp.bool_),
        "dims": jax.ShapeDtypeStruct((fields.num_fields,), jnp.int32),
    }
    state = saved_state.restore(
        Path(folder) / "state", like, on_host=on_host, way_out=run_again(folder)
    )
    if kept is None:
        kept = RowsAndDims(np.asarray(state["rows"]), np.asarray(state["dims"]))
    return Trained(state["params"], state["batch_stats"], kept)


def chosen_by_rival(run: Run) -> KeptTable | None:
    """What a rival keeps, which its phase ``choose`` left; None of OptEmbed."""
    rival = rival_of(run.settings.method)
    if rival is None:
        return None
    run.workdir.require("choose", "retrain")
    folder = run.workdir.phase_dir("choose")
    arrays = array_file.load(folder / CHOICE, run_again(folder))
    found: KeptTable = rival.kept.from_arrays(arrays, run.prepared.fields)
    return found


def model_in(settings: Settings, phase: str) -> ModelConfig:
    """The model of a run's phase: a rival's supernet prunes nothing, and has the rival's layer."""
    rival = rival_of(settings.method)
    if phase != "supernet" or rival is None or rival.layer is None:
        return model_of(phase, settings.model)
    plain = model_of("baseline", settings.model)
    return with_layer(plain, rival.layer(plain.latent_dim))


def model_of(phase: str, model: ModelConfig) -> ModelConfig:
    """The model of a phase: the baseline prunes nothing."""
    if phase != "baseline":
        return model
    plain = ModelConfig()
    return dataclasses.replace(
        model, mode="none", **{name: getattr(plain, name) for name in OF_PRUNING}
    )


def counts(run: Run, model: ModelConfig, trained: Trained) -> dict[str, Any]:
    """What the model keeps, in all and of each field, as a phase records it."""
    fields, kept = run.prepared.fields, trained.kept
    count = count_parameters(model, trained.params, fields, trained.rows, trained.dims)
    has_linear = trained.params.table.linear is not None
    count = dataclasses.replace(
        count,
        table=kept.numbers(fields),
        linear=kept.linear_weights(model, fields) if has_linear else 0,
    )
    per_field = zip(
        fields.names,
        fields.sizes,
        kept.rows_per_field(fields),
        trained.dims,
        kept.numbers_per_field(fields),
        strict=True,
    )
    return {
        "table_parameters": count.table,
        "linear_parameters": count.linear,
        "oov_parameters": count.oov,
        "network_parameters": count.network,
        "total_parameters": count.total,
        "rows_kept": int(trained.rows.sum()),
        **({} if kept.stored_rows == trained.rows.sum() else {"rows_stored": kept.stored_rows}),
        **({"shares_rows": True} if kept.shares_rows else {}),
        "rows_by_frequency": kept_by_frequency(run.prepared.counts, trained.rows),
        "fields": [
            {
                **{"name": name, "rows": rows, "rows_kept": int(own), "dim": int(dim)},
                "parameters": int(numbers),
            }
            for name, rows, own, dim, numbers in per_field
        ],
    }


def abstract(model: ModelConfig, fields: Fields) -> tuple[Params, Any]:
    """Shapes of ``(params, batch_stats)``, without making them."""
    return jax.eval_shape(lambda key: init_params(key, model, fields), jax.random.key(0))


def key_of(run: Run, phase: str) -> jax.Array:
    """The PRNG key of a phase."""
    return jax.random.fold_in(jax.random.key(run.settings.seed), PHASES.index(phase))


def click_rate(run: Run) -> float | None:
    """What models are to predict before they are trained, as ``init_params`` takes it."""
    from_clicks = run.settings.init_output == "click_rate"
    return run.prepared.label_rate["train"] if from_clicks else None
