"""A run from flags to results: the data set is prepared, phases are run, the summary is written."""

import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import Any

from experiments.run import deterministic, flags, processes, report, report_page
from experiments.run.bundle_plan import check_shape, cut_rows, planned, shaped
from experiments.run.bundle_rows import kept_shape
from experiments.run.choose_phase import limit_of
from experiments.run.phases import phase_flags, phases_asked, run_phase
from experiments.run.progress import DataProgress, Progress
from experiments.run.search_setup import check_budget
from experiments.run.settings import Settings
from experiments.run.trained import Run
from experiments.run.tune_phase import with_chosen
from experiments.run.warm_flags import WARM_START
from experiments.run.warm_options import WarmOptions
from experiments.run.warm_record import begun_with, check_begun, told_before
from experiments.run.warm_start import WarmStart, identity_of, is_there, open_warm_start
from experiments.run.workdir import Workdir
from optembed_jax import data
from optembed_jax.data.raw.part_files import NoFiles
from optembed_jax.errors import InputError
from optembed_jax.rivals.registry import OPTEMBED


def open_run(to_run: Callable[[Settings], Sequence[str]] = phases_asked) -> Run:
    """Check the flags and the workdir, prepare the data set; nothing is written to the workdir.

    Args:
      to_run: the phases that are to be run. Where they are finished, as where there are none, a run
        that began with an earlier one is opened without it.
    """
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
    is_over = workdir.result("retrain") is not None
    plan = planned(settings, prepared, is_over=is_over)
    if fewer := cut_rows(settings, plan.cost, prepared.fields):
        progress.say(f"note: {fewer}")
    settings, warm = _begun(plan.settings, prepared, workdir, to_run(plan.settings), progress)
    dims = warm.dims() if warm is not None and settings.keeps_shape else None
    if dims is not None and not is_over:
        plan = shaped(plan, prepared, dims)
    # Before anything runs, so that a contradiction costs no time; what a folder was begun with
    # first, which says more than what is wrong with flags that are not its own.
    asked = settings
    for phase in phases_asked(settings):
        if not workdir.check_flags(phase, phase_flags(phase, settings)):
            workdir.check_later(phase)
        settings = with_chosen(settings, workdir)
    if asked.method == OPTEMBED:
        if not asked.keeps_shape:  # which ``check_shape`` holds to it
            check_budget(asked.model, asked.search_options, prepared.fields)
    else:
        limit_of(asked, prepared.fields)
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
    run = Run(settings, prepared, workdir, progress, warm, plan.cost, plan.mask_columns)
    if warm is not None and settings.keeps_shape and not is_over:
        check_shape(settings, prepared, kept_shape(run))
    return run


def _begun(
    settings: Settings,
    prepared: data.PreparedData,
    workdir: Workdir,
    phases: Sequence[str],
    progress: Progress,
) -> tuple[Settings, WarmStart | None]:
    """The settings with the identity of the earlier model, and that, where a phase needs it.

    Raises:
      InputError: it is not what the run was begun with, or cannot be used.
    """
    options, warm, asked = settings.warm, None, phases_asked(settings)
    if options is not None:
        begun = begun_with(workdir, asked)
        if begun is None or _needs_earlier(workdir, phases, options):
            left = [p for p in phases if p in asked and workdir.result(p) is None]
            warm = open_warm_start(options, settings, prepared, workdir.path, left)
            identity: str | None = warm.earlier.identity
        elif WARM_START.present and is_there(options):
            identity = identity_of(options)
        else:
            identity = begun.identity
            if WARM_START.present:
                progress.say(
                    f"note: --warm_start={options.source} is not there any more; what is asked for "
                    f"is finished in {workdir.path}, and needs nothing of it"
                )
        options = dataclasses.replace(options, identity=identity)
        settings = dataclasses.replace(settings, warm=options)
    check_begun(workdir, asked, options)
    return settings, warm


def _needs_earlier(workdir: Workdir, phases: Sequence[str], options: WarmOptions) -> bool:
    """Whether a phase is still to be run, or what was carried still to be told, if it can be."""
    if any(workdir.result(phase) is None for phase in phases):
        return True
    return bool(phases) and told_before(workdir) is None and is_there(options)


def _summarised(run: Run) -> dict[str, Any]:
    """The summary; of rows that were carried it tells what it told, where no phase was run."""
    warm = None
    if run.settings.warm is not None:
        warm = told_before(run.workdir) if run.warm is None else run.warm.record()
    return report.summarise(run.workdir, run.settings, warm)


def phase_main(phase: str) -> Callable[[], None]:
    """The main of a single phase."""

    def main() -> None:
        run = open_run(lambda settings: (phase,))
        with processes.stopping_together():
            run_phase(run, phase)
        summary = _summarised(run)
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
    summary = _summarised(run)
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
