"""A run from flags to results: the data set is prepared, phases are run, the summary is written."""

import dataclasses
import io
from collections.abc import Callable

from experiments.run import deterministic, flags, processes, report, report_page
from experiments.run.bundle_plan import cut_rows, planned
from experiments.run.choose_phase import limit_of
from experiments.run.phases import phase_flags, phases_asked, run_phase
from experiments.run.progress import DataProgress, Progress
from experiments.run.search_setup import check_budget
from experiments.run.trained import Run
from experiments.run.tune_phase import with_chosen
from experiments.run.warm_start import open_warm_start
from experiments.run.workdir import Workdir
from optembed_jax import data
from optembed_jax.data.raw.files import NoFiles
from optembed_jax.errors import InputError
from optembed_jax.rivals.registry import OPTEMBED


def open_run() -> Run:
    """Check the flags and the workdir, prepare the data set; nothing is written to the workdir."""
    settings, workdir = flags.settings(), Workdir(flags.workdir())
    if settings.deterministic:
        deterministic.ask_for()
    processes.connect(
        flags.DISTRIBUTED.value,
        flags.COORDINATOR_ADDRESS.value,
        flags.NUM_PROCESSES.value,
        flags.PROCESS_ID.value,
    )
    progress = Progress(None if processes.is_first() else io.StringIO())
    begun_with = workdir.fingerprint()
    try:
        prepared = data.prepare(
            settings.dataset, settings.data, settings.data_dir, DataProgress(progress), begun_with
        )
    except NoFiles as error:
        if begun_with is None:
            raise
        raise InputError(
            f"the data that workdir {workdir.path} was begun with are not in --data_dir="
            f"{settings.data_dir}; say where they are now, or correct the path of the raw files: "
            f"{error}"
        ) from error
    for line in prepared.surprises():
        progress.say(f"warning: {line}")
    for line in [*prepared.doubts(), *prepared.left_out()]:
        progress.say(f"note: {line}")
    workdir.check_data(settings.dataset, prepared.fingerprint, prepared.options)
    asked = settings
    settings, bundle_cost = planned(asked, prepared)
    if fewer := cut_rows(asked, settings, prepared.fields):
        progress.say(f"note: {fewer}")
    warm = None
    if settings.warm is not None:
        warm = open_warm_start(settings.warm, settings, prepared, workdir.path)
        begins = dataclasses.replace(settings.warm, identity=warm.earlier.identity)
        settings = dataclasses.replace(settings, warm=begins)
    # Before anything runs, so that a contradiction costs no time.
    if settings.method == OPTEMBED:
        check_budget(settings.model, settings.search_options, prepared.fields)
    else:
        limit_of(settings, prepared.fields)
    for phase in phases_asked(settings):
        if not workdir.check_flags(phase, phase_flags(phase, settings)):
            workdir.check_later(phase)
        settings = with_chosen(settings, workdir)
    rows = prepared.num_rows
    progress.say(
        f"{settings.dataset}  {rows['train']:,} training, {rows['validation']:,} validation and "
        f"{rows['test']:,} test rows, {prepared.fields.num_fields} fields, "
        f"{prepared.fields.num_features:,} features"
    )
    # What was not begun before was just compared with its files.
    changed = None if begun_with is None else data.changed_file(prepared)
    if changed is not None:
        progress.say(
            f"note: {changed} has changed since it was prepared; this run goes on with what it was "
            f"begun with, in {prepared.path}, and another --workdir takes the new content"
        )
    return Run(settings, prepared, workdir, progress, warm, bundle_cost)


def phase_main(phase: str) -> Callable[[], None]:
    """The main of a single phase."""

    def main() -> None:
        run = open_run()
        with processes.stopping_together():
            run_phase(run, phase)
        summary = report.summarise(run.workdir, run.settings, run.warm and run.warm.record())
        parts = []
        if "fields" in summary:
            parts = [report.phase_table(summary), report.frequency_table(summary)]
        processes.say("\n\n".join([*parts, *report.findings(summary)]))

    return main


def pipeline_main() -> None:
    """The main of all phases."""
    run = open_run()
    with processes.stopping_together():
        for phase in phases_asked(run.settings):
            run_phase(run, phase)
            run = dataclasses.replace(run, settings=with_chosen(run.settings, run.workdir))
    summary = report.summarise(run.workdir, run.settings, run.warm and run.warm.record())
    parts = [
        report.phase_table(summary),
        report.field_table(summary),
        *filter(None, [report.feature_table(summary)]),
        report.frequency_table(summary),
        *report.findings(summary),
    ]
    processes.say("\n" + "\n\n".join(parts) + "\n")
    processes.say(f"summary: {run.workdir.path / 'summary.json'}")
    processes.say(f"report: {report_page.write(run.workdir)}")
