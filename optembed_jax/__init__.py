"""OptEmbed in JAX: smaller embedding tables for click-through-rate models.

Everything here is a pure function over arrays or a frozen dataclass, so that it composes with
``jit``, ``vmap``, ``grad`` and ``pmap`` in a notebook. The data layer is ``optembed_jax.data``.
Names are imported when one is asked for: data are prepared without JAX, which would take a second
and a quarter of the memory, and without JAX ``optembed_jax.numpy_bundle`` serves all the same.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from optembed_jax.lazy_names import asked_for

__version__ = "0.1.0"

if TYPE_CHECKING:
    from optembed_jax.errors import DivergedError as DivergedError
    from optembed_jax.errors import InputError as InputError
    from optembed_jax.fields import Fields as Fields
    from optembed_jax.fitness.field_importance import field_importance as field_importance
    from optembed_jax.fitness.validation_fitness import ValidationFitness as ValidationFitness
    from optembed_jax.fitness.validation_fitness import make_fitness as make_fitness
    from optembed_jax.method.bag import Bags as Bags
    from optembed_jax.method.bag import bags_of as bags_of
    from optembed_jax.method.dimension import parameters_kept as parameters_kept
    from optembed_jax.method.dimension import prefix_mask as prefix_mask
    from optembed_jax.method.dimension import sample_dims as sample_dims
    from optembed_jax.method.embedding import Table as Table
    from optembed_jax.method.embedding import init_table as init_table
    from optembed_jax.method.embedding import linear_term as linear_term
    from optembed_jax.method.embedding import select as select
    from optembed_jax.method.threshold import long_tail_gradient as long_tail_gradient
    from optembed_jax.method.threshold import long_tail_step as long_tail_step
    from optembed_jax.method.threshold import regulariser as regulariser
    from optembed_jax.method.threshold import row_mask as row_mask
    from optembed_jax.method.threshold import row_norm as row_norm
    from optembed_jax.method.threshold import table_row_mask as table_row_mask
    from optembed_jax.metrics import auc as auc
    from optembed_jax.metrics import auc_on_device as auc_on_device
    from optembed_jax.metrics import calibration as calibration
    from optembed_jax.metrics import logloss as logloss
    from optembed_jax.metrics import logloss_on_device as logloss_on_device
    from optembed_jax.models.forward import embed as embed
    from optembed_jax.models.forward import forward as forward
    from optembed_jax.models.model_config import ModelConfig as ModelConfig
    from optembed_jax.models.parameter_count import ParameterCount as ParameterCount
    from optembed_jax.models.parameter_count import count_parameters as count_parameters
    from optembed_jax.models.params import Params as Params
    from optembed_jax.models.params import init_params as init_params
    from optembed_jax.models.selection import Selection as Selection
    from optembed_jax.search.budget import table_parameters as table_parameters
    from optembed_jax.search.dimension_rules import DIMENSION_RULES as DIMENSION_RULES
    from optembed_jax.search.dimension_rules import rule_dims as rule_dims
    from optembed_jax.search.loop import Generation as Generation
    from optembed_jax.search.loop import SearchConfig as SearchConfig
    from optembed_jax.search.loop import Searcher as Searcher
    from optembed_jax.search.loop import SearchState as SearchState
    from optembed_jax.search.loop import evolve as evolve
    from optembed_jax.search.population import Population as Population
    from optembed_jax.search.score_cache import ScoreCache as ScoreCache
    from optembed_jax.search.scorer import Scorer as Scorer
    from optembed_jax.search.searchers import Evolution as Evolution
    from optembed_jax.search.searchers import GivenCandidates as GivenCandidates
    from optembed_jax.search.searchers import ParetoEvolution as ParetoEvolution
    from optembed_jax.search.searchers import RandomSearch as RandomSearch
    from optembed_jax.search.searchers import front as front
    from optembed_jax.search.space import SearchSpace as SearchSpace
    from optembed_jax.search.successive_halving import successive_halving as successive_halving
    from optembed_jax.search.surrogate_assisted import (
        SurrogateAssistedEvolution as SurrogateAssistedEvolution,
    )
    from optembed_jax.search.variation import crossover as crossover
    from optembed_jax.search.variation import mutate as mutate
    from optembed_jax.serving.compact_model import compact as compact
    from optembed_jax.serving.compact_model import expand as expand
    from optembed_jax.serving.compact_model import keep as keep
    from optembed_jax.step.optimisers import TrainConfig as TrainConfig
    from optembed_jax.step.train_state import TrainState as TrainState
    from optembed_jax.step.train_state import init_state as init_state
    from optembed_jax.step.train_step import Phase as Phase
    from optembed_jax.step.train_step import eval_step as eval_step
    from optembed_jax.step.train_step import train_step as train_step
    from optembed_jax.table.compact import CompactIndex as CompactIndex
    from optembed_jax.table.compact import CompactTable as CompactTable
    from optembed_jax.table.compact import compact_table as compact_table
    from optembed_jax.table.cutting import Cutting as Cutting
    from optembed_jax.table.group_lasso import GroupLassoState as GroupLassoState
    from optembed_jax.table.group_lasso import group_lasso as group_lasso
    from optembed_jax.table.score import keep_best as keep_best
    from optembed_jax.training.fit import Fitted as Fitted
    from optembed_jax.training.fit import fit as fit
    from optembed_jax.training.prediction import predict as predict
    from optembed_jax.training.resume import Epoch as Epoch

_OFFERED = {
    "errors": ("DivergedError", "InputError"),
    "fields": ("Fields",),
    "fitness.field_importance": ("field_importance",),
    "fitness.validation_fitness": ("ValidationFitness", "make_fitness"),
    "method.bag": ("Bags", "bags_of"),
    "method.dimension": ("parameters_kept", "prefix_mask", "sample_dims"),
    "method.embedding": ("Table", "init_table", "linear_term", "select"),
    "method.threshold": (
        "long_tail_gradient",
        "long_tail_step",
        "regulariser",
        "row_mask",
        "row_norm",
        "table_row_mask",
    ),
    "metrics": ("auc", "auc_on_device", "calibration", "logloss", "logloss_on_device"),
    "models.forward": ("embed", "forward"),
    "models.model_config": ("ModelConfig",),
    "models.parameter_count": ("ParameterCount", "count_parameters"),
    "models.params": ("Params", "init_params"),
    "models.selection": ("Selection",),
    "search.budget": ("table_parameters",),
    "search.dimension_rules": ("DIMENSION_RULES", "rule_dims"),
    "search.loop": ("Generation", "SearchConfig", "Searcher", "SearchState", "evolve"),
    "search.population": ("Population",),
    "search.score_cache": ("ScoreCache",),
    "search.scorer": ("Scorer",),
    "search.searchers": (
        "Evolution",
        "GivenCandidates",
        "ParetoEvolution",
        "RandomSearch",
        "front",
    ),
    "search.space": ("SearchSpace",),
    "search.successive_halving": ("successive_halving",),
    "search.surrogate_assisted": ("SurrogateAssistedEvolution",),
    "search.variation": ("crossover", "mutate"),
    "serving.compact_model": ("compact", "expand", "keep"),
    "step.optimisers": ("TrainConfig",),
    "step.train_state": ("TrainState", "init_state"),
    "step.train_step": ("Phase", "eval_step", "train_step"),
    "table.compact": ("CompactIndex", "CompactTable", "compact_table"),
    "table.cutting": ("Cutting",),
    "table.group_lasso": ("GroupLassoState", "group_lasso"),
    "table.score": ("keep_best",),
    "training.fit": ("Fitted", "fit"),
    "training.prediction": ("predict",),
    "training.resume": ("Epoch",),
}
_HOMES = {name: module for module, names in _OFFERED.items() for name in names}

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

# What takes no JAX. Of everything else all is imported at once, so that what is there does not
# depend on what was asked for before.
_LIGHT = ("data", "errors", "fields", "numpy_bundle", "storage", "values")

if not TYPE_CHECKING:  # To a type checker every name would be there.

    def __getattr__(name: str) -> Any:
        """A public name, or a folder such as ``data``, imported where it is not there yet."""
        return asked_for(__name__, _HOMES, name, _import_others)

    def _import_others(module: str) -> None:
        if module not in _LIGHT:
            for name, home in _HOMES.items():
                globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)

    def __dir__() -> list[str]:
        """What there is, imported or not."""
        names = {*globals(), *__all__} if importlib.util.find_spec("jax") else globals()
        return sorted(names)
