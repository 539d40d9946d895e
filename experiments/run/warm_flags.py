"""Flags of a warm start."""

from absl import flags

from experiments.run.warm_options import WarmOptions
from optembed_jax.errors import InputError

WARM_START = flags.DEFINE_string(
    "warm_start",
    None,
    "The --workdir of a finished run, such as yesterday's, or a bundle: its rows, moments (which a "
    "bundle does not have) and network are where this one begins, carried over by value. Same "
    "model, fields and, of a run, mode; no bucket.",
)
KEEP_SHAPE = flags.DEFINE_bool(
    "keep_shape",
    False,
    "With --warm_start: no baseline, supernet or search. What was kept is trained on with its "
    "dimensions; rows of values that are gone go to those that are now read most.",
)
ROW_MEMORY = flags.DEFINE_float(
    "row_memory",
    0.0,
    "With --warm_start and a row budget: how much (from 0, below 1) what the earlier run chose its "
    "rows by counts beside what they score now; in it older days count less and less.",
)


def warm_options() -> WarmOptions | None:
    """What the flags say; None of a run that begins from nothing.

    Raises:
      InputError: a shape is to be kept, or scores remembered, and there is nothing earlier.
    """
    if WARM_START.value == "":  # As of a shell's variable that is not set.
        raise InputError("warm_start is empty; say the folder of a finished run, or leave it out")
    if WARM_START.value is None:
        if KEEP_SHAPE.value:
            raise InputError("keep_shape keeps that of an earlier run: say which, --warm_start=DIR")
        if ROW_MEMORY.value:
            raise InputError("row_memory is of an earlier run: say which, --warm_start=DIR")
        return None
    if not 0 <= ROW_MEMORY.value < 1:
        raise InputError(f"row_memory must be at least 0 and below 1, not {ROW_MEMORY.value}")
    return WarmOptions(WARM_START.value, KEEP_SHAPE.value, ROW_MEMORY.value)
