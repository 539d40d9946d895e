"""A run from flags to results: the data set is prepared, phases are run, the summary is written."""

from collections.abc import Callable

from experiments import flags, report
from experiments.phases import phase_flags, phases_of, run_phase
from experiments.progress import DataProgress, Progress
from experiments.trained import Run
from experiments.workdir import Workdir
from optembed_jax import data


def open_run() -> Run:
    """Check the flags and the workdir, prepare the data set; nothing is written to the workdir."""
    settings, workdir = flags.settings(), Workdir(flags.workdir())
    progress = Progress()
    prepared = data.prepare(
        settings.dataset, settings.data, settings.data_dir, DataProgress(progress)
    )
    workdir.check_data(settings.dataset, prepared.fingerprint)
    # Before anything runs, so that a contradiction costs no time.
    for phase in phases_of(settings.model.mode):
        if not workdir.check_flags(phase, phase_flags(phase, settings)):
            workdir.check_later(phase)
    rows = prepared.num_rows
    progress.say(
        f"{settings.dataset}  {rows['train']:,} training, {rows['validation']:,} validation and "
        f"{rows['test']:,} test rows, {prepared.fields.num_fields} fields, "
        f"{prepared.fields.num_features:,} features"
    )
    return Run(settings, prepared, workdir, progress)


def phase_main(phase: str) -> Callable[[], None]:
    """The main of a single phase."""

    def main() -> None:
        run = open_run()
        run_phase(run, phase)
        print(report.phase_table(report.summarise(run.workdir, run.settings)))

    return main


def pipeline_main() -> None:
    """The main of all phases."""
    run = open_run()
    for phase in phases_of(run.settings.model.mode):
        run_phase(run, phase)
    summary = report.summarise(run.workdir, run.settings)
    print(f"\n{report.phase_table(summary)}\n\n{report.field_table(summary)}\n")
    print(f"summary: {run.workdir.path / 'summary.json'}")
