"""Flags of the search: one for each attribute of ``SearchOptions`` and ``SearchConfig``."""

from absl import flags

from experiments.run import model_flags
from experiments.run.data_flags import values_of
from experiments.run.search_options import SearchOptions
from optembed_jax.errors import InputError
from optembed_jax.search.loop import SearchConfig

_SEARCH = SearchConfig()
_OPTIONS = SearchOptions()


flags.DEFINE_string(
    "search",
    _OPTIONS.search,
    "paper (no budget), budget, pareto (AUC against bytes of the bundle, or of the table where "
    "that is limited or padded), random, or a simple rule: uniform, log_v, inverse_log_v, corner. "
    "auto: budget where there is one, else paper.",
)
flags.DEFINE_integer(
    "pad_dims_to",
    _OPTIONS.pad_dims_to,
    "Count dimensions as multiples of it, as hardware stores them.",
)
flags.DEFINE_string(
    "pad_for",
    _OPTIONS.pad_for,
    "Count rows and dimensions as the SparseCores of these chips store them, such as v5p-256, "
    "v6e-64 or tpu7x-128: in the budget of the search, and in the table that export ends with.",
)
flags.DEFINE_string(
    "fitness",
    _OPTIONS.fitness,
    "auc, or logloss with batch statistics of each candidate's own: how the supernet judges.",
)
flags.DEFINE_integer(
    "max_table_bytes",
    _OPTIONS.max_table_bytes,
    "Size of the final table as float32, over the rows kept; the vectors of --mode_oov=oov count. "
    "Where dimensions are searched, the search keeps to it; in mode feature, the rows do.",
)
flags.DEFINE_integer(
    "max_table_parameters", _OPTIONS.max_table_parameters, "The same in numbers, not in bytes."
)
flags.DEFINE_list(
    "keep_rates",
    [str(rate) for rate in _OPTIONS.keep_rates],
    "Shares of the rows, such as 1,0.5,0.2: the search chooses one of them, too. By default, under "
    "a budget and without --row_keep, those that it pays for at all, half and a quarter of the "
    "columns.",
)
PICK = flags.DEFINE_string(
    "pick",
    "best",
    "Which table of a front to retrain: best, knee, its number, or the best of at most a size, "
    "such as 200kB.",
)
FINALISTS = flags.DEFINE_bool(
    "finalists",
    True,
    "Keep what validates best: of the winner of a search and the simple rules, all retrained (but "
    "for --search=paper and a single rule); without a search, of the retrained model and the "
    "supernet as it was cut.",
)
VERIFY_SEEDS = flags.DEFINE_integer(
    "verify_seeds",
    0,
    "Retrain the winner and the best simple rule with so many seeds, and say which is better.",
)
flags.DEFINE_integer("generations", _SEARCH.generations, "Generations after the random one.")
flags.DEFINE_integer("mutation_num", _SEARCH.mutation_num, "Offspring by mutation.")
flags.DEFINE_integer("crossover_num", _SEARCH.crossover_num, "Offspring by crossover.")
flags.DEFINE_float("m_prob", _SEARCH.m_prob, "Probability that a mutation redraws a field.")
flags.DEFINE_integer("top_k", _SEARCH.top_k, "Parents kept from all generations so far.")
flags.DEFINE_integer(
    "search_patience",
    _SEARCH.search_patience,
    "Stop the search when so many generations have gained less than --search_tolerance; 0 never. "
    "Without it 10, and under --search=budget 5 where its model explains what was scored. "
    "--search=paper never stops early.",
)
flags.DEFINE_float(
    "search_tolerance",
    _SEARCH.search_tolerance,
    "In units of --fitness, of --search_patience. Without it 1e-4, and 5e-4 where that is 5.",
)
CANDIDATES_PER_PASS = flags.DEFINE_integer(
    "candidates_per_pass", 32, "Candidates scored at once; memory grows with it."
)


def search_options() -> SearchOptions | None:
    """What is searched for; None in a mode that does not search."""
    if model_flags.mode() not in ("all", "embed"):
        return None
    values = values_of(SearchOptions)
    try:
        values["keep_rates"] = tuple(float(rate) for rate in values["keep_rates"])
    except ValueError as error:
        raise InputError(f"keep_rates must be numbers, such as 1,0.5,0.2: {error}") from error
    return SearchOptions(**values)
