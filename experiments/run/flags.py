"""The flags of a run, and what all flags tell the library.

Names follow the reference where it has them (``--alpha --t_lr --latent_dim --mlp_dims
--mode_threshold --mode_oov --mutation_num --crossover_num --m_prob``). No flag is read below
``experiments/``: the functions here turn flags into the library's frozen dataclasses, which check
the values.
"""

from collections.abc import Mapping
from typing import Any

from absl import flags
from etils.epath import Path

from experiments.run import (
    bundle_flags,
    data_flags,
    model_flags,
    search_flags,
    training_flags,
    warm_flags,
)
from experiments.run.data_flags import DATA_DIR, DATASET, data_options, values_of
from experiments.run.search_options import SearchOptions
from experiments.run.settings import Settings
from optembed_jax.errors import InputError
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.search.budget import BYTES_PER_PARAMETER
from optembed_jax.search.loop import SearchConfig
from optembed_jax.storage.object_store import in_file_system, path_of

flags.adopt_module_key_flags(data_flags)
flags.adopt_module_key_flags(warm_flags)
flags.adopt_module_key_flags(model_flags)
flags.adopt_module_key_flags(training_flags)
flags.adopt_module_key_flags(search_flags)
flags.adopt_module_key_flags(bundle_flags)

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


def settings() -> Settings:
    """What all flags say, checked."""
    model = {**values_of(ModelConfig), "mode": model_flags.mode()}
    try:
        model["mlp_dims"] = tuple(int(width) for width in model["mlp_dims"])
    except ValueError as error:
        raise InputError(f"mlp_dims must be whole numbers, such as 128,64: {error}") from error
    model["model"] = model_flags.backbone()
    train = training_flags.train_config()
    options = search_flags.search_options()
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
        batch_size=training_flags.BATCH_SIZE.value,
        epochs=training_flags.EPOCHS.value,
        patience=training_flags.PATIENCE.value,
        early_stop_by=training_flags.EARLY_STOP_BY.value,
        early_stop_errors=training_flags.EARLY_STOP_ERRORS.value,
        init_output=training_flags.INIT_OUTPUT.value,
        calibrate=training_flags.CALIBRATE.value,
        negative_rate=training_flags.NEGATIVE_RATE.value,
        seed=SEED.value,
        retrain_from=training_flags.RETRAIN_FROM.value,
        candidates_per_pass=search_flags.CANDIDATES_PER_PASS.value,
        retrain_group_lasso=training_flags.RETRAIN_GROUP_LASSO.value,
        checkpoint_every=training_flags.CHECKPOINT_EVERY.value,
        profile_steps=training_flags.PROFILE_STEPS.value,
        deterministic=DETERMINISTIC.value,
        tensorboard=training_flags.TENSORBOARD.value,
        search_options=options
        or SearchOptions(max_bundle_bytes=bundle_flags.MAX_BUNDLE_BYTES.value),
        pick=search_flags.PICK.value,
        finalists=search_flags.FINALISTS.value,
        verify_seeds=search_flags.VERIFY_SEEDS.value,
        method=model_flags.METHOD.value,
        tune=training_flags.tune_options(train),
        parallelism=PARALLELISM.value,
        exchange=EXCHANGE.value,
        warm=warm_flags.warm_options(),
        storage=bundle_flags.STORAGE.value,
    )


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
    found = {
        name: value
        for name, value in recorded.items()
        if name not in flags.FLAGS or flags.FLAGS[name].default != value
    }
    defaults = training_flags.defaults_of(recorded.get("model", ""), recorded.get("row_decay", ""))
    return {
        name: value
        for name, value in found.items()
        if name not in defaults or defaults[name] != value
    }
