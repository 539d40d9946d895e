"""A run, and a model as one of its phases leaves it to the next."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils.epath import Path

from experiments.run.progress import Progress
from experiments.run.settings import Settings
from experiments.run.workdir import PHASES, Workdir
from optembed_jax import data
from optembed_jax.fields import Fields
from optembed_jax.method.bag import bags_of
from optembed_jax.models.forward import Params, Selection, init_params
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.parameter_count import count_parameters
from optembed_jax.serving.planned_bytes import BundleCost
from optembed_jax.storage import saved_state
from optembed_jax.table import stand_in
from optembed_jax.table.score import kept_by_frequency

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
      bundle_cost: what a bundle takes, where the search counts that; None counts tables.
    """

    settings: Settings
    prepared: data.PreparedData
    workdir: Workdir
    progress: Progress
    warm: Any = None
    bundle_cost: BundleCost | None = None


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model as a phase leaves it.

    Attributes:
      params, batch_stats: of the best epoch.
      rows: bool ``[V]``, rows kept.
      dims: int32 ``[F]``, columns kept.
    """

    params: Params
    batch_stats: Any
    rows: np.ndarray
    dims: np.ndarray

    def as_tree(self) -> dict[str, Any]:
        """The structure of what is saved."""
        return {
            "params": self.params,
            "batch_stats": self.batch_stats,
            "rows": jnp.asarray(self.rows),
            "dims": jnp.asarray(self.dims, jnp.int32),
        }

    def selection(self, model: ModelConfig, fields: Fields) -> Selection:
        """What the model reads of its table, frozen; of that of ``cut_to`` where pruned values
        share a stand-in, which it holds in their place.
        """
        rows = None if model.shares_stand_in else jnp.asarray(self.rows)
        bags = bags_of(fields, model.pooling)
        return Selection(rows=rows, dims=jnp.asarray(self.dims), bags=bags)

    def pruned(self, model: ModelConfig) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Rows and dims where the mode of ``model`` prunes them, else None, as ``compact`` asks."""
        rows = self.rows if model.prunes_rows else None
        return rows, self.dims if model.searches_dims else None


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
    model = model_of(phase, run.settings.model)
    fields = run.prepared.fields
    params, batch_stats = abstract(model, run)
    like = {
        "params": params,
        "batch_stats": batch_stats,
        "rows": jax.ShapeDtypeStruct((fields.num_features,), jnp.bool_),
        "dims": jax.ShapeDtypeStruct((fields.num_fields,), jnp.int32),
    }
    state = saved_state.restore(
        (folder or run.workdir.phase_dir(phase)) / "state", like, on_host=on_host
    )
    return Trained(
        state["params"],
        state["batch_stats"],
        np.asarray(state["rows"]),
        np.asarray(state["dims"]),
    )


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
    fields = run.prepared.fields
    count = count_parameters(model, trained.params, fields, trained.rows, trained.dims)
    per_field = zip(
        fields.names, fields.sizes, fields.rows_per_field(trained.rows), trained.dims, strict=True
    )
    return {
        "table_parameters": count.table,
        "linear_parameters": count.linear,
        "oov_parameters": count.oov,
        "network_parameters": count.network,
        "total_parameters": count.total,
        "rows_kept": int(trained.rows.sum()),
        "rows_by_frequency": kept_by_frequency(run.prepared.counts, trained.rows),
        "fields": [
            {"name": name, "rows": rows, "rows_kept": int(kept), "dim": int(dim)}
            for name, rows, kept, dim in per_field
        ],
    }


def abstract(model: ModelConfig, run: Run) -> tuple[Params, Any]:
    """Shapes of ``(params, batch_stats)``, without making them."""
    return jax.eval_shape(
        lambda key: init_params(key, model, run.prepared.fields), jax.random.key(0)
    )


def key_of(run: Run, phase: str) -> jax.Array:
    """The PRNG key of a phase."""
    return jax.random.fold_in(jax.random.key(run.settings.seed), PHASES.index(phase))


def click_rate(run: Run) -> float | None:
    """What models are to predict before they are trained, as ``init_params`` takes it."""
    from_clicks = run.settings.init_output == "click_rate"
    return run.prepared.label_rate["train"] if from_clicks else None
