"""Prepare a data set: raw files to shuffled records, a vocabulary and checksums.

python -m experiments.prepare_data --dataset=criteo_display --raw_dir=DIR --data_dir=DIR

The other mains do this by themselves, on this machine, when the data set is not prepared yet; what
was prepared on a cluster (--engine=ray) they find as what was prepared here. Their flags are taken
and left alone, so that one flagfile serves all.
"""

from absl import flags

from experiments.run import cli, data_flags
from experiments.run.progress import DataProgress, Progress
from optembed_jax import data
from optembed_jax.storage.object_store import in_file_system

flags.adopt_module_key_flags(data_flags)
# Of this main alone: with the others, which prepare only what is not prepared yet, they would say
# nothing most of the time.
_ENGINE = data.EngineOptions()
flags.DEFINE_string("engine", _ENGINE.engine, "Who prepares: local or ray; the result is one.")
flags.DEFINE_string(
    "engine_address",
    _ENGINE.engine_address,
    "With --engine=ray: the cluster, such as auto on one of its machines; None starts one of this "
    "machine's cores, and ends it.",
)
flags.DEFINE_integer(
    "workers", _ENGINE.workers, "Threads or processes at once; None: one for each core."
)


def main() -> None:
    """Prepare what the flags say, and tell what came of it."""
    prepared = data.prepare(
        data_flags.DATASET.value,
        data_flags.data_options(),
        in_file_system(data_flags.DATA_DIR.value, "--data_dir"),
        DataProgress(Progress()),
        engine=data.EngineOptions(**data_flags.values_of(data.EngineOptions)),
    )
    print(describe(prepared))


def describe(prepared: data.PreparedData) -> str:
    """A prepared data set in a few lines."""
    lines = [f"{prepared.name}: {prepared.path}"]
    for split, rows in prepared.num_rows.items():
        weighing = ""
        if prepared.weights is not None:
            weighing = f" that weigh {sum(prepared.weights[split].sum):,.6g}"
        lines.append(
            f"  {split:<11}{rows:>13,} rows{weighing}, {prepared.label_rate[split]:.4f} positive"
        )
    lines.append(
        f"  {prepared.fields.num_fields} fields, {prepared.fields.num_features:,} features"
    )
    for name, size in zip(prepared.fields.names, prepared.fields.sizes, strict=True):
        lines.append(f"    {name:<20}{size:>11,} rows")
    lines += [f"  {line}" for line in prepared.left_out()]
    if prepared.negative_share < 1:
        lines.append(f"  {prepared.negative_share:.4%} of the negatives drawn in training")
    lines += [f"  note: {line}" for line in prepared.doubts()]
    lines += [f"  warning: {line}" for line in prepared.surprises()]
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main, goes_on=False, also_taken="experiments.run.flags")
