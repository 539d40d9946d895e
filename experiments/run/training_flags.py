"""Flags of the step and the loop: one for each attribute of ``TrainConfig``, and what is tuned."""

from collections.abc import Sequence
from typing import Any

from absl import flags

from experiments.run.data_flags import values_of
from experiments.run.model_flags import MODEL
from experiments.run.tune_options import BESIDE, LADDERS, TUNED, TuneOptions, strength_of
from optembed_jax.errors import InputError
from optembed_jax.step.optimisers import TrainConfig

# The library's defaults are the paper's; the commands' are what docs/regulariser.md found best.
_TRAIN = TrainConfig(row_decay="group_lasso", lr_plateau="0.1")

_OF_FM = 3e-5
"""Of the group lasso where no perceptron reads the rows (docs/regulariser.md)."""

flags.DEFINE_float("lr", _TRAIN.lr, "Learning rate of table and network.")
flags.DEFINE_string(
    "table_optimiser",
    None,
    "What the table's optimiser keeps: adam two moments of each number, rowwise_adam a first one "
    "of each number and a second one of each row, rowwise_adagrad one number of each row. None: "
    "rowwise_adam, but adam with --row_decay=l2_coupled, which has no form by row.",
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
ROW_DECAY = flags.DEFINE_string(
    "row_decay",
    _TRAIN.row_decay,
    "What rows of the table pay: --table_l2 inside Adam in every step (l2_coupled, the reference), "
    "or in those that read them (l2_visited), or beside Adam (decoupled: AdamW); --group_lasso and "
    "--table_l2 by proximal steps (group_lasso); or none.",
)
flags.DEFINE_float(
    "group_lasso",
    None,
    f"Of --row_decay=group_lasso: what a row's norm pays per step. None: {_TRAIN.group_lasso:g}, "
    f"but {_OF_FM:g} with --model=fm, whose rows have no gradient but from one another.",
)
flags.DEFINE_string(
    "table_update",
    _TRAIN.table_update,
    "sparse touches only the rows that a batch reads, dense all; auto: sparse for large tables.",
)
flags.DEFINE_string(
    "table_dtype",
    _TRAIN.table_dtype,
    "float32, or bfloat16: in which a training keeps the rows of its table, rounded up or down by "
    "chance in each step. Moments and what a phase leaves are float32.",
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
    + "; ".join(f"of --{name} {_listed(ladder)}" for name, ladder in LADDERS.items())
    + f"; with --model=fm {_OF_FM:g} and 1e-4 before them.",
)
TUNE_L2_LADDER = flags.DEFINE_list(
    "tune_l2_ladder",
    None,
    "Strengths of --table_l2 that --tune=rows tries beside the best --group_lasso, rising, after "
    "the ladder has been climbed without any; empty: --table_l2 stays what it is. None: "
    f"{_listed(BESIDE)} where the group lasso is tuned.",
)
TUNE_ROWS = flags.DEFINE_integer("tune_rows", 1_000_000, "Training rows to try each on, at most.")
TUNE_EPOCHS = flags.DEFINE_integer("tune_epochs", 20, "Most epochs of each of them.")
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


def defaults_of(model: str, row_decay: str) -> dict[str, Any]:
    """Of flags whose default depends on others: the optimiser that keeps the least of those that
    learn alike (docs/row_update.md), and the group lasso of a backbone, where rows pay it
    (docs/regulariser.md).
    """
    of_fm = model == "fm" and row_decay == "group_lasso"
    return {
        "table_optimiser": "adam" if row_decay == "l2_coupled" else "rowwise_adam",
        "group_lasso": _OF_FM if of_fm else _TRAIN.group_lasso,
    }


def resolved() -> dict[str, Any]:
    """What the flags of :func:`defaults_of` say, given or by default."""
    defaults = defaults_of(MODEL.value, ROW_DECAY.value)
    values = {name: flags.FLAGS[name].value for name in defaults}
    return {name: defaults[name] if v in (None, "") else v for name, v in values.items()}


def train_config() -> TrainConfig:
    """What the flags say of the optimisers."""
    return TrainConfig(**values_of(TrainConfig) | resolved())


def tune_options(train: TrainConfig) -> TuneOptions | None:
    """Which strengths are tried; None tries none."""
    if TUNE.value == "none":
        return None
    strength = strength_of(train)
    usual, default = LADDERS[strength], defaults_of(MODEL.value, ROW_DECAY.value)
    if default.get(strength, usual[0]) < usual[0]:  # A ladder has the default on it.
        usual = (default[strength], 1e-4, *usual)
    given = TUNE_L2_LADDER.value
    beside = (BESIDE if strength == "group_lasso" else ()) if given is None else given
    return TuneOptions(
        strength,
        _numbers("tune_ladder", TUNE_LADDER.value or usual),
        _numbers("tune_l2_ladder", beside),
        TUNE_ROWS.value,
        TUNE_EPOCHS.value,
    )


def _numbers(name: str, ladder: Sequence[str | float]) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in ladder)
    except ValueError as error:
        raise InputError(f"{name} must be numbers, such as 1e-4,1e-3: {error}") from error
