"""Flags of what is deployed: of an export and of predictions."""

from absl import flags

from optembed_jax.errors import InputError

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
    lower_bound=0.0,
)
MAX_BUNDLE_BYTES = flags.DEFINE_integer(
    "max_bundle_bytes",
    None,
    "Bytes of the bundle's whole folder at most: a run chooses rows and dimensions that fit, with "
    "4 bits a number or those of --storage, and a --method what it has instead; export keeps to it "
    "exactly, by fewer bits where they do least harm.",
)
FINE_TUNE_STEPS = flags.DEFINE_integer(
    "fine_tune_steps",
    256,
    "export: of a storage with codes, train the model so many steps further in it, of the run's "
    "batch size and at .03 times its learning rate, at most twice through the training rows, and "
    "keep what has the best validation AUC; 0 stores what the run trained, and spares the five "
    "times the model's memory that it takes.",
    lower_bound=0,
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


def required(flag: flags.FlagHolder[str | None]) -> str:
    """The value of a flag that a main cannot do without."""
    if not flag.value:
        raise InputError(f"--{flag.name} is missing")
    return flag.value
