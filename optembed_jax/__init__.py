"""OptEmbed in JAX: smaller embedding tables for click-through-rate models.

Everything here is a pure function over arrays or a frozen dataclass, so that it composes with
``jit``, ``vmap``, ``grad`` and ``pmap`` in a notebook. The data layer is ``optembed_jax.data``.
"""

from optembed_jax.dimension import parameters_kept, prefix_mask, sample_dims
from optembed_jax.embedding import Table, init_table, linear_term, select
from optembed_jax.errors import DivergedError, InputError
from optembed_jax.fields import Fields
from optembed_jax.fit import Fitted, fit, predict
from optembed_jax.fitness import candidate_aucs, make_fitness
from optembed_jax.forward import ModelConfig, Params, Selection, embed, forward, init_params
from optembed_jax.metrics import auc, auc_on_device, calibration, logloss
from optembed_jax.parameter_count import ParameterCount, count_parameters
from optembed_jax.racing import race
from optembed_jax.resume import Epoch
from optembed_jax.score_cache import ScoreCache
from optembed_jax.search import Generation, Population, SearchConfig, crossover, evolve, mutate
from optembed_jax.threshold import (
    long_tail_slope,
    long_tail_step,
    regulariser,
    row_mask,
    row_norm,
    table_row_mask,
)
from optembed_jax.train import Phase, TrainConfig, TrainState, eval_step, init_state, train_step

__version__ = "0.1.0"

__all__ = [
    "DivergedError",
    "Epoch",
    "Fields",
    "Fitted",
    "Generation",
    "InputError",
    "ModelConfig",
    "ParameterCount",
    "Params",
    "Phase",
    "Population",
    "ScoreCache",
    "SearchConfig",
    "Selection",
    "Table",
    "TrainConfig",
    "TrainState",
    "auc",
    "auc_on_device",
    "calibration",
    "candidate_aucs",
    "count_parameters",
    "crossover",
    "embed",
    "eval_step",
    "evolve",
    "fit",
    "forward",
    "init_params",
    "init_state",
    "init_table",
    "linear_term",
    "logloss",
    "long_tail_slope",
    "long_tail_step",
    "make_fitness",
    "mutate",
    "parameters_kept",
    "predict",
    "prefix_mask",
    "race",
    "regulariser",
    "row_mask",
    "row_norm",
    "sample_dims",
    "select",
    "table_row_mask",
    "train_step",
]
