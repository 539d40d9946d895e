"""Compare OptEmbed with its rivals: AUC and logloss against bytes of the bundle, over seeds.

    python -m experiments.compare --methods=optembed,frequency,uniform --budgets=0.1,0.2 \
        --seeds=3 --dataset=flights --workdir=DIR

A budget is a share of the parameters of the full table, linear weights apart; what is drawn and
tabulated are bytes of the bundle that each run ends in, vocabulary and network with it. All other
flags are those of every run. The same command goes on where it was stopped. Leaves compare.json
and compare.svg in DIR.
"""

from absl import flags

from experiments.run import cli, comparison, comparison_report, data_flags
from experiments.run import flags as project_flags
from experiments.run.progress import DataProgress, Progress, clock
from experiments.run.workdir import write_json, write_text
from optembed_jax import data
from optembed_jax.errors import InputError
from optembed_jax.rivals.registry import METHODS
from optembed_jax.storage.object_store import in_file_system

flags.adopt_module_key_flags(project_flags)

_OWN = ("methods", "budgets", "seeds", "workdir", "flagfile")
_OF_A_CELL = ("method", "mode", "seed", "max_table_parameters", "max_table_bytes")


def main() -> None:
    """Run what is missing of the grid, and tell."""
    for name in _OF_A_CELL:
        if flags.FLAGS[name].present:
            raise InputError(f"--{name} is what a comparison varies; leave it out")
    try:
        shares = tuple(float(share) for share in flags.FLAGS.budgets)
    except ValueError as error:
        raise InputError(f"--budgets must be numbers, such as 0.1,0.2: {error}") from error
    settings = project_flags.settings()
    folder = in_file_system(project_flags.workdir(), "--workdir")
    progress = Progress()
    prepared = data.prepare(
        settings.dataset, settings.data, settings.data_dir, DataProgress(progress), None
    )
    project = flags.FLAGS.get_key_flags_for_module(project_flags)
    of_data = flags.FLAGS.get_key_flags_for_module(data_flags)
    given = {flag.name: flag.serialize() for flag in [*project, *of_data] if flag.present}
    grid = comparison.Grid(
        tuple(flags.FLAGS.methods),
        shares,
        flags.FLAGS.seeds,
        prepared.fields.num_features * settings.model.latent_dim,
        tuple(text for name, text in sorted(given.items()) if name not in _OWN),
    )
    records = comparison.run_all(folder, grid, progress.say, clock)
    summary = comparison_report.summarise(records)
    write_json(folder / "compare.json", {**summary, "runs": records})
    write_text(folder / "compare.svg", comparison_report.picture(summary))
    print(comparison_report.tables(summary))


if __name__ == "__main__":
    # Here, because benchmarks have flags of these names.
    flags.DEFINE_list("methods", list(METHODS), "What to compare: some of --method's.")
    flags.DEFINE_list(
        "budgets", ["0.05", "0.1", "0.2"], "Shares of the full table's parameters, each in (0, 1]."
    )
    flags.DEFINE_integer("seeds", 3, "Seeds of each, from 0.")
    cli.run(main)
