"""Every flag of every main but those of data and of a warm start, and what the library is told.

Names follow the reference where it has them (``--alpha --t_lr --latent_dim --mlp_dims
--mode_threshold --mode_oov --mutation_num --crossover_num --m_prob``). No flag is read below
``experiments/``: the functions here turn flags into the library's frozen dataclasses, which check
the values.
"""

from collections.abc import Mapping
from typing import Any

from absl import flags
from etils.epath import Path

from experiments.run import data_flags, warm_flags
from experiments.run.data_flags import DATA_DIR, DATASET, data_options, values_of
from experiments.run.search_options import SearchOptions
from experiments.run.settings import Settings
from experiments.run.tune_options import LADDERS, TUNED, TuneOptions, strength_of
from optembed_jax.errors import InputError
from optembed_jax.models.backbone_name import imported
from optembed_jax.models.model_config import DEFAULT_ROW_KEEP, DEFAULT_ROW_SCORE, ModelConfig
from optembed_jax.rivals.registry import METHODS, OPTEMBED, rival_of
from optembed_jax.search.budget import BYTES_PER_PARAMETER
from optembed_jax.search.loop import SearchConfig
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.storage.object_store import in_file_system, path_of

# The library's defaults are the paper's; the commands' are what docs/row_pruning.md and
# docs/regulariser.md found best, and where it ties (docs/serving.md) what makes the smaller bundle.
_MODEL = ModelConfig(mode_threshold="budget", mode_oov="shared", mode_linear="prune")
_TRAIN = TrainConfig(row_decay="group_lasso", lr_plateau="0.1")
_SEARCH = SearchConfig()
_OPTIONS = SearchOptions()

flags.adopt_module_key_flags(data_flags)
flags.adopt_module_key_flags(warm_flags)

# --- the run
WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run: states, metrics and summary.json. Made when absent. May be gs://.",
)
DETERMINISTIC = flags.DEFINE_bool(
    "deterministic",
    False,
    "On a GPU: sums in a fixed order and no kernels chosen by timing, so that one seed gives one "
    "result, bit for bit (XLA's xla_gpu_deterministic_ops); slower. A CPU needs no such flag.",
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of initial values, shuffling, dropout and search.")

# --- model: one flag for each attribute of ModelConfig
MODEL = flags.DEFINE_string(
    "model",
    _MODEL.model,
    "fm, fnn, deepfm, ipnn, dcn, dcnv2, autoint, dlrm or finalmlp; or a Flax module of your own, "
    "package.module:ClassName, which is imported and run: name only code that you trust.",
)
flags.DEFINE_integer("latent_dim", _MODEL.latent_dim, "D, the largest embedding dimension.")
flags.DEFINE_list(
    "mlp_dims", [str(width) for width in _MODEL.mlp_dims], "Hidden units of the perceptron."
)
flags.DEFINE_float("dropout", _MODEL.dropout, "Dropout of the perceptron, in [0, 1).")
flags.DEFINE_integer(
    "cross_layers",
    _MODEL.cross_layers,
    "Cross layers of dcn (default 6) and dcnv2 (default 3), interacting layers of autoint (3).",
)
flags.DEFINE_integer(
    "attention_heads", _MODEL.attention_heads, "Heads of each of autoint's interacting layers."
)
flags.DEFINE_integer("attention_units", _MODEL.attention_units, "Units of each of these heads.")
flags.DEFINE_integer(
    "fusion_heads",
    _MODEL.fusion_heads,
    "Heads of finalmlp's bilinear fusion, a divisor of the last of --mlp_dims.",
)
flags.DEFINE_string(
    "mode",
    _MODEL.mode,
    "What is pruned: all (rows and dimensions), feature (rows), embed (dimensions), none.",
)
METHOD = flags.DEFINE_string(
    "method",
    OPTEMBED,
    f"Who chooses what is kept: {', '.join(METHODS)}. All but the first are rivals to compare "
    "with, which have the modes they have; all else of the run is the same.",
)
flags.DEFINE_string(
    "mode_threshold",
    _MODEL.mode_threshold,
    "Rows are kept by a budget (--row_keep), or by a threshold that is learned for each field or "
    "feature (the paper).",
)
flags.DEFINE_string(
    "mode_oov",
    _MODEL.mode_oov,
    "Pruned ids read zero, a learned oov vector, or shared: the OOV row, as unseen values do.",
)
flags.DEFINE_string(
    "mode_linear", _MODEL.mode_linear, "keep or prune the linear weights of pruned rows."
)
flags.DEFINE_string(
    "pooling", _MODEL.pooling, "mean or sum: what a field reads of the values of a cell in --multi."
)
flags.DEFINE_string(
    "compute_dtype",
    _MODEL.compute_dtype,
    "float32, or bfloat16: of the network's activations and products in training. Parameters, "
    "moments, statistics, loss and metrics stay in float32; search and serving compute in float32.",
)
flags.DEFINE_integer("norm", _MODEL.norm, "Order of the row norm, 1 or 2.")
flags.DEFINE_float(
    "row_keep",
    _MODEL.row_keep,
    "Of a budget: share of the rows to keep, in (0, 1], exactly; those of the best --row_score. "
    f"None: {DEFAULT_ROW_KEEP}, or in mode feature what --max_table_bytes pays for.",
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
flags.DEFINE_string(
    "row_score",
    _MODEL.row_score,
    "What --row_keep chooses by, and --max_table_bytes in mode feature: norm, mean_norm (over the "
    f"last epoch), taylor, frequency or frequency_per_field. None: {DEFAULT_ROW_SCORE}.",
)

# --- training: one flag for each attribute of TrainConfig, and those of the loop
flags.DEFINE_float("lr", _TRAIN.lr, "Learning rate of table and network.")
flags.DEFINE_string(
    "table_optimiser",
    _TRAIN.table_optimiser,
    "What the table's optimiser keeps: adam two moments of each number, rowwise_adam a first one "
    "of each number and a second one of each row, rowwise_adagrad one number of each row.",
)
flags.DEFINE_float(
    "table_lr",
    _TRAIN.table_lr,
    "Learning rate of the table; None: --lr. rowwise_adagrad: by validation, 0.003 to 0.03.",
)
flags.DEFINE_float("l2", _TRAIN.l2, "L2 on kernels, added to the gradient.")
flags.DEFINE_float(
    "table_l2",
    _TRAIN.table_l2,
    "L2 on rows and linear weights, paid as --row_decay says. None: --l2, but 0 with group_lasso.",
)
flags.DEFINE_float("t_lr", _TRAIN.t_lr, "Learning rate of the thresholds.")
flags.DEFINE_float("alpha", _TRAIN.alpha, "Weight of the regulariser sum(exp(-t)).")
flags.DEFINE_string(
    "row_decay",
    _TRAIN.row_decay,
    "What rows of the table pay: --table_l2 inside Adam in every step (l2_coupled, the reference), "
    "or in those that read them (l2_visited), or beside Adam (decoupled: AdamW); --group_lasso and "
    "--table_l2 by proximal steps (group_lasso); or none.",
)
flags.DEFINE_float(
    "group_lasso",
    _TRAIN.group_lasso,
    "Of --row_decay=group_lasso: what a row's norm pays per step.",
)
flags.DEFINE_string(
    "table_update",
    _TRAIN.table_update,
    "sparse touches only the rows that a batch reads, dense all; auto: sparse for large tables.",
)
flags.DEFINE_string(
    "lr_plateau",
    _TRAIN.lr_plateau,
    "FACTOR or FACTOR:EPOCHS, such as 0.1:1: multiply the learning rates by it after so many "
    "epochs without a better validation; --patience counts from there. none: never (the paper).",
)
flags.DEFINE_string(
    "lr_schedule",
    _TRAIN.lr_schedule,
    "A schedule of Optax by name, with its parameters, which count epochs: "
    "cosine_decay_schedule:decay_steps=10 or exponential_decay:transition_steps=1,decay_rate=0.7.",
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 2048, "Rows per step.")
EPOCHS = flags.DEFINE_integer("epochs", 20, "Most epochs of each training phase.")
PATIENCE = flags.DEFINE_integer(
    "patience", 1, "Epochs without a better validation before a phase stops."
)
EARLY_STOP_BY = flags.DEFINE_string(
    "early_stop_by",
    "auc",
    "auc or logloss of the validation: what the best epoch is told by, and --patience counts by.",
)
EARLY_STOP_ERRORS = flags.DEFINE_float(
    "early_stop_errors",
    3.0,
    "Only epochs that are behind the best by more than so many standard errors of the difference "
    "spend --patience; 0: every epoch that is no new best (the paper). With --lr_plateau, which "
    "cuts after any, they count where clicks are so few that the error is above .005 of AUC.",
)
INIT_OUTPUT = flags.DEFINE_string(
    "init_output",
    "click_rate",
    "A phase starts by predicting the click_rate of the training rows for every row, or with an "
    "output layer at random (the paper).",
)
CALIBRATE = flags.DEFINE_bool(
    "calibrate",
    True,
    "After training, shift the output's bias until the mean prediction over the training rows is "
    "their click rate. No AUC changes by it.",
)
NEGATIVE_RATE = flags.DEFINE_float(
    "negative_rate",
    1.0,
    "Where of the rows without a click only some were kept: which share, in (0, 1]. What is "
    "exported then predicts the probabilities of all rows; what training reports is of those kept.",
)
CHECKPOINT_EVERY = flags.DEFINE_string(
    "checkpoint_every",
    "300s",
    "Save a training phase every so many steps, such as 500, or seconds, such as 60s; it is saved "
    "at the end of each epoch in any case.",
)
PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps",
    None,
    "A:B: trace these steps of each training phase, counted from 1 where it begins or goes on, "
    "into DIR/<phase>/profile/, for XProf (or the profile plugin of TensorBoard).",
)

TENSORBOARD = flags.DEFINE_bool(
    "tensorboard",
    False,
    "Write the epochs of each training phase as event files, too, to DIR/<phase>/tensorboard/; "
    "needs the extra tensorboard (tensorboardX, without TensorFlow).",
)


def _listed(ladder: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in ladder)


TUNE = flags.DEFINE_enum(
    "tune",
    "none",
    TUNED,
    "rows: before all phases, find by validation which strength of what rows pay is best: of "
    "--group_lasso, or where that is not in use or 0, of --table_l2.",
)
TUNE_LADDER = flags.DEFINE_list(
    "tune_ladder",
    None,
    "Strengths to try with --tune=rows, rising. None: "
    + "; ".join(f"of --{name} {_listed(ladder)}" for name, ladder in LADDERS.items()),
)
TUNE_ROWS = flags.DEFINE_integer("tune_rows", 1_000_000, "Training rows to try each on, at most.")
TUNE_EPOCHS = flags.DEFINE_integer("tune_epochs", 12, "Most epochs of each of them.")
RETRAIN_FROM = flags.DEFINE_string(
    "retrain_from",
    "supernet",
    "Retraining starts from the supernet's initial values (the paper) or from fresh ones.",
)
RETRAIN_GROUP_LASSO = flags.DEFINE_float(
    "retrain_group_lasso",
    None,
    "--group_lasso of retraining, often a milder one; None takes the same.",
)

# --- devices and processes
PARALLELISM = flags.DEFINE_string(
    "parallelism",
    "auto",
    "pmap: a copy of the table on every device; sharded: its rows sharded over them; auto: pmap if "
    "that fits, on accelerators and in runs of several processes.",
)
EXCHANGE = flags.DEFINE_string(
    "exchange",
    "auto",
    "Of sharded rows: all_gather: every device sees the ids of the whole batch; all_to_all: each "
    "asks the others for the rows of its own examples; auto: what sends less.",
)
DISTRIBUTED = flags.DEFINE_string(
    "distributed", "auto", "Several processes: auto (Cloud TPU pods, or a given address), on, off."
)
COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address", None, "host:port of the first process, where it is not found by itself."
)
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Beside --coordinator_address.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")

# --- search: one flag for each attribute of SearchOptions and SearchConfig
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
flags.DEFINE_list(
    "keep_rates",
    [str(rate) for rate in _OPTIONS.keep_rates],
    "Shares of the rows, such as 1,0.5,0.2: the search chooses one of them, too.",
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

# --- serving: export and predict
BUNDLE = flags.DEFINE_string(
    "bundle", None, "Folder of the bundle to write or to serve. May be gs://."
)
STORAGE = flags.DEFINE_string(
    "storage",
    None,
    "float32, float16, bfloat16, int8, int6, int4, int3 or int2 rows (a scale for each; "
    "with _field behind it for each field), or auto: for each part what --max_bundle_bytes or "
    "--max_auc_drop allows, by what it does to the validation rows. Of a run: what "
    "--max_bundle_bytes plans with, and export takes where nothing else is said. None: what the "
    "run was told, or float32; a plan is then of 4 bits.",
)
MAX_AUC_DROP = flags.DEFINE_float(
    "max_auc_drop",
    1e-3,
    "export: refuse a storage that costs more validation AUC than this.",
)
MAX_BUNDLE_BYTES = flags.DEFINE_integer(
    "max_bundle_bytes",
    None,
    "Bytes of the bundle's whole folder at most: a run chooses rows and dimensions that fit, with "
    "4 bits a number or those of --storage, and a --method what it has instead; export keeps to it "
    "exactly, by fewer bits where they do least harm.",
)
PHASE = flags.DEFINE_string(
    "phase",
    None,
    "export: the phase whose model is exported, such as baseline, for comparison. None: the last.",
)
FULL_IDS = flags.DEFINE_bool(
    "full_ids",
    False,
    "export: the bundle takes the ids of the prepared data set, and holds its whole vocabulary; "
    "else only values that are kept have ids (Bundle.encode gives them).",
)
COUNTS = flags.DEFINE_bool(
    "counts", False, "export: also write how often each value occurred in training."
)
FORMAT = flags.DEFINE_string(
    "format",
    "bundle",
    "export: bundle, or what the bundle at --bundle is written again as, to --output: onnx (a "
    "file) or torch (a folder). No run is needed for the latter.",
)
TAKES_IDS = flags.DEFINE_bool(
    "takes_ids",
    False,
    "export: what --format=onnx writes takes the bundle's ids, and not raw columns.",
)
REFRESH = flags.DEFINE_bool(
    "refresh",
    False,
    "export: write the module of the bundle that is at --bundle anew, with the JAX that runs, and "
    "leave all else of it as it is; no run is needed.",
)
PLATFORMS = flags.DEFINE_list(
    "platforms", ["cpu", "cuda", "rocm", "tpu"], "export: what the bundle's module is compiled for."
)
SAMPLE = flags.DEFINE_string(
    "sample",
    None,
    "export: also write some raw rows of the data set to this CSV (JSON lines where cells are "
    "lists), to try predict.",
)
INPUT = flags.DEFINE_string("input", None, "predict: a table's file with raw columns by name.")
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "predict: CSV or .parquet to write, a probability for each row. export: what --format other "
    "than bundle writes, a file or a folder.",
)
MAX_UNSEEN = flags.DEFINE_float(
    "max_unseen",
    None,
    "predict: refuse a file in which a larger share (0..1) of the rows has a value of some field "
    "without a row: unseen in training, too rare, or pruned.",
    lower_bound=0.0,
    upper_bound=1.0,
)


def settings() -> Settings:
    """What all flags say, checked."""
    model = {**values_of(ModelConfig), "mode": _mode()}
    try:
        model["mlp_dims"] = tuple(int(width) for width in model["mlp_dims"])
    except ValueError as error:
        raise InputError(f"mlp_dims must be whole numbers, such as 128,64: {error}") from error
    model["model"] = backbone()
    train = TrainConfig(**values_of(TrainConfig))
    options = _search_options()
    if options is None:
        model["max_table_bytes"] = _row_budget()
    else:
        model["max_table_bytes"] = None  # The search keeps to it.
    return Settings(
        dataset=DATASET.value,
        data=data_options(),
        data_dir=in_file_system(DATA_DIR.value, "--data_dir"),
        model=ModelConfig(**model),
        train=train,
        search=SearchConfig(**values_of(SearchConfig)),
        batch_size=BATCH_SIZE.value,
        epochs=EPOCHS.value,
        patience=PATIENCE.value,
        early_stop_by=EARLY_STOP_BY.value,
        early_stop_errors=EARLY_STOP_ERRORS.value,
        init_output=INIT_OUTPUT.value,
        calibrate=CALIBRATE.value,
        negative_rate=NEGATIVE_RATE.value,
        seed=SEED.value,
        retrain_from=RETRAIN_FROM.value,
        candidates_per_pass=CANDIDATES_PER_PASS.value,
        retrain_group_lasso=RETRAIN_GROUP_LASSO.value,
        checkpoint_every=CHECKPOINT_EVERY.value,
        profile_steps=PROFILE_STEPS.value,
        deterministic=DETERMINISTIC.value,
        tensorboard=TENSORBOARD.value,
        search_options=options or SearchOptions(max_bundle_bytes=MAX_BUNDLE_BYTES.value),
        pick=PICK.value,
        finalists=FINALISTS.value,
        verify_seeds=VERIFY_SEEDS.value,
        method=METHOD.value,
        tune=_tune_options(train),
        parallelism=PARALLELISM.value,
        exchange=EXCHANGE.value,
        warm=warm_flags.warm_options(),
        storage=STORAGE.value,
    )


def backbone() -> Any:
    """The name of a backbone of the library, or the module that ``--model`` says to import."""
    return imported(MODEL.value) if ":" in MODEL.value else MODEL.value


def _mode() -> str:
    """What is pruned: ``--mode``, which a rival says itself."""
    rival, flag = rival_of(METHOD.value), flags.FLAGS["mode"]
    # One that differs and was given is told of by the settings.
    return str(flag.value) if rival is None or flag.present else rival.mode


def _search_options() -> SearchOptions | None:
    """What is searched for; None in a mode that does not search."""
    if _mode() not in ("all", "embed"):
        return None
    values = values_of(SearchOptions)
    try:
        values["keep_rates"] = tuple(float(rate) for rate in values["keep_rates"])
    except ValueError as error:
        raise InputError(f"keep_rates must be numbers, such as 1,0.5,0.2: {error}") from error
    return SearchOptions(**values)


def _tune_options(train: TrainConfig) -> TuneOptions | None:
    """Which strengths are tried; None tries none."""
    if TUNE.value == "none":
        return None
    strength = strength_of(train)
    try:
        ladder = tuple(float(value) for value in TUNE_LADDER.value or LADDERS[strength])
    except ValueError as error:
        raise InputError(f"tune_ladder must be numbers, such as 1e-4,1e-3: {error}") from error
    return TuneOptions(strength, ladder, TUNE_ROWS.value, TUNE_EPOCHS.value)


def _row_budget() -> int | None:
    """Bytes that the rows may have, in a mode without a search."""
    limit = SearchOptions(
        max_table_bytes=flags.FLAGS["max_table_bytes"].value,
        max_table_parameters=flags.FLAGS["max_table_parameters"].value,
    ).limit
    return None if limit is None else BYTES_PER_PARAMETER * limit


def workdir() -> Path:
    """The ``--workdir``, which has to be given; it may be in a bucket."""
    if not WORKDIR.value:
        raise InputError("say where the run is to be kept: --workdir=DIR")
    return path_of(WORKDIR.value)


def required(flag: flags.FlagHolder[str | None]) -> str:
    """The value of a flag that a main cannot do without."""
    if not flag.value:
        raise InputError(f"--{flag.name} is missing")
    return flag.value


def adopt(recorded: Mapping[str, Any]) -> None:
    """Give flags that were not given the values that a run recorded.

    Raises:
      InputError: it would import code that only the record names.
    """
    model = str(recorded.get("model", ""))
    if ":" in model and not flags.FLAGS["model"].present:
        raise InputError(
            f"the run has a backbone of its user's own, {model}; say so again, --model="
            f"{model.partition('(')[0]}, since no code is imported that only a file names"
        )
    for name, value in recorded.items():
        if name in flags.FLAGS and not flags.FLAGS[name].present:
            is_list = isinstance(value, list)
            flags.FLAGS[name].value = [str(part) for part in value] if is_list else value


def plan_for(max_bundle_bytes: int | None, storage: str | None) -> None:
    """What a run was planned for, whatever an export of it is told to keep to."""
    flags.FLAGS["max_bundle_bytes"].value = max_bundle_bytes
    flags.FLAGS["storage"].value = storage


def given(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Of the flags that a run recorded those that differ from their defaults."""
    return {
        name: value
        for name, value in recorded.items()
        if name not in flags.FLAGS or flags.FLAGS[name].default != value
    }
