"""What a run was begun with, by its own records.

A run that is finished needs no more of the earlier one than this, which may be gone by then.
"""

from collections.abc import Sequence
from typing import Any

from experiments.run.records import read_json
from experiments.run.warm_options import WarmOptions
from experiments.run.workdir import AS_TOLD, Workdir
from optembed_jax.errors import InputError


def told_before(workdir: Workdir) -> dict[str, Any] | None:
    """What the summary tells of the earlier run and its rows; None where it does not.

    Raises:
      InputError: the summary cannot be read.
    """
    path = workdir.path / "summary.json"
    if not path.exists():
        return None
    found = read_json(path, f"remove {path} to have it written again").get("warm_start")
    return found if isinstance(found, dict) else None


def begun_with(workdir: Workdir, phases: Sequence[str] = AS_TOLD) -> WarmOptions | None:
    """What the phases were begun with, by the last of them that was.

    None of a run that began from nothing, or has not begun.

    Raises:
      InputError: a record cannot be read.
    """
    flags = _last_flags(workdir, phases)
    identity = None if flags is None else flags.get("warm_start")
    if flags is None or identity is None:
        return None
    told = told_before(workdir) or {}
    # Runs of older versions told the folder's name alone, one that was stopped tells nothing yet.
    source = told.get("source") or told.get("from") or identity
    return WarmOptions(
        str(source), bool(flags.get("keep_shape")), flags.get("row_memory") or 0.0, identity
    )


def check_begun(workdir: Workdir, phases: Sequence[str], now: WarmOptions | None) -> None:
    """Refuse phases that were begun with another earlier run, or with none where there is one now.

    Raises:
      InputError: they were; the message names what they were begun with.
    """
    if _last_flags(workdir, phases) is None:
        return
    begun = begun_with(workdir, phases)
    if (begun and begun.as_flags()) == (now and now.as_flags()):
        return
    raise InputError(
        f"workdir {workdir.path} was begun {_told(begun)}, and this command is {_told(now)}: give "
        "it what it was begun with, or use another --workdir"
    )


def _last_flags(workdir: Workdir, phases: Sequence[str]) -> dict[str, Any] | None:
    """The flags of the last of the phases that is finished or begun; None where none is.

    The last, because a baseline beside a shape that is kept may be of another beginning. Tuning,
    which begins with nothing, is not asked.
    """
    for phase in reversed([phase for phase in AS_TOLD if phase in phases and phase != "tune"]):
        flags = workdir.flags_of(phase)
        if flags is not None:
            return flags
    return None


def _told(options: WarmOptions | None) -> str:
    if options is None:
        return "without --warm_start"
    where = "" if options.source == options.identity else f"={options.source}"
    parts = [f"--warm_start{where} (content {options.identity})"]
    parts += ["--keep_shape"] if options.keep_shape else []
    parts += [f"--row_memory={options.row_memory:g}"] if options.row_memory else []
    return f"with {' '.join(parts)}"
