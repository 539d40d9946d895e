"""OptEmbed in JAX: smaller embedding tables for click-through-rate models.

Everything here is a pure function over arrays or a frozen dataclass, so that it composes with
``jit``, ``vmap``, ``grad`` and ``pmap`` in a notebook. The data layer is ``optembed_jax.data``.
"""

from optembed_jax.budget import table_parameters
from optembed_jax.dimension import parameters_kept, prefix_mask, sample_dims
from optembed_jax.dimension_rules import DIMENSION_RULES, rule_dims
from optembed_jax.embedding import Table, init_table, linear_term, select
from optembed_jax.errors import DivergedError, InputError
from optembed_jax.fields import Fields
from optembed_jax.fit import Fitted, fit, predict
from optembed_jax.fitness import ValidationFitness, make_fitness
from optembed_jax.forward import ModelConfig, Params, Selection, embed, forward, init_params
from optembed_jax.metrics import auc, auc_on_device, calibration, logloss, logloss_on_device
from optembed_jax.parameter_count import ParameterCount, count_parameters
from optembed_jax.racing import race
from optembed_jax.resume import Epoch
from optembed_jax.score_cache import ScoreCache
from optembed_jax.search import (
    Generation,
    Population,
    Scorer,
    SearchConfig,
    Searcher,
    SearchState,
    evolve,
)
from optembed_jax.search_space import SearchSpace
from optembed_jax.searchers import (
    Evolution,
    GivenCandidates,
    ParetoEvolution,
    RandomSearch,
    front,
)
from optembed_jax.threshold import (
    long_tail_slope,
    long_tail_step,
    regulariser,
    row_mask,
    row_norm,
    table_row_mask,
)
from optembed_jax.train import Phase, TrainConfig, TrainState, eval_step, init_state, train_step
from optembed_jax.variation import crossover, mutate

__version__ = "0.1.0"

__all__ = [
    "DIMENSION_RULES",
    "DivergedError",
    "Epoch",
    "Evolution",
    "Fields",
    "Fitted",
    "Generation",
    "GivenCandidates",
    "InputError",
    "ModelConfig",
    "ParameterCount",
    "Params",
    "ParetoEvolution",
    "Phase",
    "Population",
    "RandomSearch",
    "ScoreCache",
    "Scorer",
    "SearchConfig",
    "SearchSpace",
    "SearchState",
    "Searcher",
    "Selection",
    "Table",
    "TrainConfig",
    "TrainState",
    "ValidationFitness",
    "auc",
    "auc_on_device",
    "calibration",
    "count_parameters",
    "crossover",
    "embed",
    "eval_step",
    "evolve",
    "fit",
    "forward",
    "front",
    "init_params",
    "init_state",
    "init_table",
    "linear_term",
    "logloss",
    "logloss_on_device",
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
    "rule_dims",
    "sample_dims",
    "select",
    "table_parameters",
    "table_row_mask",
    "train_step",
]
