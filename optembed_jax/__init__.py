"""OptEmbed in JAX: smaller embedding tables for click-through-rate models.

Everything here is a pure function over arrays or a frozen dataclass, so that it composes with
``jit``, ``vmap``, ``grad`` and ``pmap`` in a notebook. The data layer is ``optembed_jax.data``.
Where JAX is not installed, ``optembed_jax.numpy_bundle`` can be imported all the same.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_missing: ImportError | None = None
try:
    from optembed_jax.errors import DivergedError, InputError
    from optembed_jax.fields import Fields
    from optembed_jax.fitness.field_importance import field_importance
    from optembed_jax.fitness.validation_fitness import ValidationFitness, make_fitness
    from optembed_jax.method.bag import Bags, bags_of
    from optembed_jax.method.dimension import parameters_kept, prefix_mask, sample_dims
    from optembed_jax.method.embedding import Table, init_table, linear_term, select
    from optembed_jax.method.threshold import (
        long_tail_gradient,
        long_tail_step,
        regulariser,
        row_mask,
        row_norm,
        table_row_mask,
    )
    from optembed_jax.metrics import auc, auc_on_device, calibration, logloss, logloss_on_device
    from optembed_jax.models.forward import embed, forward
    from optembed_jax.models.model_config import ModelConfig
    from optembed_jax.models.parameter_count import ParameterCount, count_parameters
    from optembed_jax.models.params import Params, init_params
    from optembed_jax.models.selection import Selection
    from optembed_jax.search.budget import table_parameters
    from optembed_jax.search.dimension_rules import DIMENSION_RULES, rule_dims
    from optembed_jax.search.loop import Generation, SearchConfig, Searcher, SearchState, evolve
    from optembed_jax.search.population import Population
    from optembed_jax.search.score_cache import ScoreCache
    from optembed_jax.search.scorer import Scorer
    from optembed_jax.search.searchers import (
        Evolution,
        GivenCandidates,
        ParetoEvolution,
        RandomSearch,
        front,
    )
    from optembed_jax.search.space import SearchSpace
    from optembed_jax.search.successive_halving import successive_halving
    from optembed_jax.search.surrogate_assisted import SurrogateAssistedEvolution
    from optembed_jax.search.variation import crossover, mutate
    from optembed_jax.serving.compact_model import compact, expand, keep
    from optembed_jax.step.optimisers import TrainConfig
    from optembed_jax.step.train_state import TrainState, init_state
    from optembed_jax.step.train_step import Phase, eval_step, train_step
    from optembed_jax.table.compact import CompactIndex, CompactTable, compact_table
    from optembed_jax.table.cutting import Cutting
    from optembed_jax.table.group_lasso import GroupLassoState, group_lasso
    from optembed_jax.table.score import keep_best
    from optembed_jax.training.fit import Fitted, fit
    from optembed_jax.training.prediction import predict
    from optembed_jax.training.resume import Epoch
except ModuleNotFoundError as error:
    # Not names that are loaded when asked for: `fit` and `forward` are modules too, and whoever
    # imports one of those puts it in the function's place.
    _missing = error

__all__ = [
    "DIMENSION_RULES",
    "Bags",
    "CompactIndex",
    "CompactTable",
    "Cutting",
    "DivergedError",
    "Epoch",
    "Evolution",
    "Fields",
    "Fitted",
    "Generation",
    "GivenCandidates",
    "GroupLassoState",
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
    "SurrogateAssistedEvolution",
    "Table",
    "TrainConfig",
    "TrainState",
    "ValidationFitness",
    "auc",
    "auc_on_device",
    "bags_of",
    "calibration",
    "compact",
    "compact_table",
    "count_parameters",
    "crossover",
    "embed",
    "eval_step",
    "evolve",
    "expand",
    "field_importance",
    "fit",
    "forward",
    "front",
    "group_lasso",
    "init_params",
    "init_state",
    "init_table",
    "keep",
    "keep_best",
    "linear_term",
    "logloss",
    "logloss_on_device",
    "long_tail_gradient",
    "long_tail_step",
    "make_fitness",
    "mutate",
    "parameters_kept",
    "predict",
    "prefix_mask",
    "regulariser",
    "row_mask",
    "row_norm",
    "rule_dims",
    "sample_dims",
    "select",
    "successive_halving",
    "table_parameters",
    "table_row_mask",
    "train_step",
]

if not TYPE_CHECKING:  # To a type checker every name would be there.

    def __getattr__(name: str) -> Any:
        """Say what is missing; asked only for names that are not there."""
        if _missing is not None and name in __all__:
            raise ImportError(
                f"optembed_jax.{name} needs a package that is not installed: {_missing}; "
                "`pip install optembed-jax` installs all of them, and without them bundles are "
                "served by optembed_jax.numpy_bundle"
            ) from _missing
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
