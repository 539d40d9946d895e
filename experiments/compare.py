"""Compare OptEmbed with its rivals: AUC and logloss against bytes of the bundle, over seeds.

    python -m experiments.compare --methods=optembed,frequency,uniform --budgets=0.1,0.2 \
        --seeds=3 --dataset=flights --workdir=DIR

A budget is a share of the parameters of the full table, linear weights apart; what is drawn and
tabulated are bytes of the bundle that each run ends in, vocabulary and network with it. Or, at
equal bytes,

    python -m experiments.compare --methods=optembed:auto,frequency:int8,frequency:float32,qr:int8 \
        --bundle_budgets=0.1,0.05 --seeds=3 --dataset=flights --workdir=DIR

is a share of the bytes of the full model's bundle, in float32 with all values, which the bundle of
each run keeps to (--max_bundle_bytes) or is refused; behind the colon is a method's --storage. A
method that does not take the data (pep, where cells hold several values) is left out, and the
tables say why. All other flags are those of every run. The same command goes on where it was
stopped. Leaves compare.json, compare.svg and report.html, a page of all of it, in DIR.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from absl import flags

from experiments.run import (
    bundle_flags,
    choose_phase,
    cli,
    comparison,
    comparison_grid,
    comparison_page,
    comparison_report,
    data_flags,
    training_flags,
)
from experiments.run import flags as project_flags
from experiments.run.comparison_grid import BYTES, PARAMETERS
from experiments.run.progress import DataProgress, Progress, clock
from experiments.run.records import write_json, write_text
from experiments.run.settings import Settings
from optembed_jax import data
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.rivals.registry import METHODS, OPTEMBED
from optembed_jax.storage.object_store import in_file_system

flags.adopt_module_key_flags(project_flags)

_OWN = ("methods", "budgets", "bundle_budgets", "seeds", "workdir", "flagfile")
_ANY_BUDGET = 2**40
_OF_A_CELL = ("method", "mode", "seed", "max_table_bytes", PARAMETERS, BYTES)


def main() -> None:
    """Run what is missing of the grid, and tell."""
    for name in _OF_A_CELL:
        if flags.FLAGS[name].present:
            raise InputError(f"--{name} is what a comparison varies; leave it out")
    counts, shares = _budgets()
    methods, seeds = tuple(flags.FLAGS.methods), flags.FLAGS.seeds
    comparison_grid.check_asked(methods, shares, seeds, counts)
    settings, of_methods = _settings(methods, counts)
    folder = in_file_system(project_flags.workdir(), "--workdir")
    has_storage = any(":" in word for word in methods) or bundle_flags.STORAGE.present
    given = _given(has_storage or counts == BYTES)
    comparison.check_folder(folder, {"given": given, "counts": counts})
    progress = Progress()
    prepared = data.prepare(
        settings.dataset, settings.data, settings.data_dir, DataProgress(progress), None
    )
    unsuited = _unsuited(of_methods, prepared.fields)
    for word, told in unsuited.items():  # Now, and not after all that comes before it.
        progress.say(f"compare  {word} is left out: {told}")
    parameters = prepared.fields.num_features * settings.model.latent_dim
    grid = comparison_grid.Grid(
        methods, shares, seeds, parameters, given, counts, prepared.fingerprint
    )
    records = comparison.run_all(folder, grid, progress.say, clock, unsuited)
    summary = comparison_report.summarise(records)
    write_json(folder / "compare.json", {**summary, "runs": records})
    write_text(folder / "compare.svg", comparison_report.picture(summary))
    page = comparison_page.page_of(summary, grid, settings.dataset)
    write_text(folder / comparison_page.NAME, page)
    print(comparison_report.tables(summary))


def _budgets() -> tuple[str, tuple[float, ...]]:
    """What budgets are of, and the shares of it.

    Raises:
      InputError: they are no numbers, or of two things.
    """
    both = (flags.FLAGS["budgets"], flags.FLAGS["bundle_budgets"])
    if both[0].present and both[1].present:
        raise InputError("--budgets are of parameters and --bundle_budgets of bytes; give one")
    flag = both[1] if both[1].present else both[0]
    try:
        shares = tuple(float(share) for share in flag.value or ())
    except ValueError as error:
        raise InputError(f"--{flag.name} must be numbers, such as 0.1,0.2: {error}") from error
    return BYTES if flag is both[1] else PARAMETERS, shares


def _given(may_have_codes: bool) -> tuple[str, ...]:
    """The flags that all runs are given, as a command line has them.

    Args:
      may_have_codes: whether some bundle may be stored in codes, and trained further in them.
    """
    project = flags.FLAGS.get_key_flags_for_module(project_flags)
    of_data = flags.FLAGS.get_key_flags_for_module(data_flags)
    found = {flag.name: flag.serialize() for flag in [*project, *of_data] if flag.present}
    # Told in any case, so that a comparison goes on as it was begun, whatever becomes the default.
    found |= {name: f"--{name}={value}" for name, value in training_flags.resolved().items()}
    if may_have_codes:
        steps = bundle_flags.FINE_TUNE_STEPS
        found[steps.name] = f"--{steps.name}={steps.value}"
    return tuple(text for name, text in sorted(found.items()) if name not in _OWN)


def _settings(methods: Sequence[str], counts: str) -> tuple[Settings, dict[str, Settings]]:
    """Settings that the runs have in common, and those of each method under any budget.

    Raises:
      InputError: a flag that a method does not go with, or any other mistake in one.
    """
    found, of_methods = project_flags.settings(), {}
    varied = {name: flags.FLAGS[name].value for name in ("method", "storage", "row_keep", counts)}
    try:
        for word in methods:
            method, storage = comparison_grid.parts_of(word)
            flags.FLAGS["method"].value = method
            flags.FLAGS["storage"].value = storage or varied["storage"]
            is_ours = method == OPTEMBED
            flags.FLAGS["row_keep"].value = varied["row_keep"] if is_ours else None
            flags.FLAGS[counts].value = _ANY_BUDGET
            with _told_of(word):
                of_methods[word] = project_flags.settings()
    finally:
        for name, value in varied.items():
            flags.FLAGS[name].value = value
    return found, of_methods


def _unsuited(of_methods: Mapping[str, Settings], fields: Fields) -> dict[str, str]:
    """The methods that do not take what these fields hold, and why.

    Raises:
      InputError: so do all that were named; the message is of the first.
    """
    found: dict[str, str] = {}
    for word, of_method in of_methods.items():
        if of_method.method == OPTEMBED:
            continue
        try:
            choose_phase.limit_of(of_method, fields)
        except InputError as error:
            found[word] = str(error)
    if len(found) == len(of_methods):
        word, told = next(iter(found.items()))
        raise InputError(f"with {word} of --methods: {told}")
    return found


@contextlib.contextmanager
def _told_of(word: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"with {word} of --methods: {error}") from error


def define_flags() -> None:
    """The flags of a comparison alone; not at import: benchmarks have some of these names."""
    flags.DEFINE_list(
        "methods",
        list(METHODS),
        "What to compare: some of --method's, each with its --storage behind a colon if need be, "
        "such as optembed:auto,frequency:int8.",
    )
    flags.DEFINE_list(
        "budgets", ["0.05", "0.1", "0.2"], "Shares of the full table's parameters, each in (0, 1]."
    )
    flags.DEFINE_list(
        "bundle_budgets",
        [],
        "In place of --budgets: shares of the bytes of the full model's bundle (float32, all "
        "values), each in (0, 1], which the bundle of each method keeps to or is refused.",
    )
    flags.DEFINE_integer("seeds", 3, "Seeds of each, from 0.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
