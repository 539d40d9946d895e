"""How every main starts and fails: a person's mistake is one line and exit status 2."""

import errno
import functools
import importlib
import signal
import sys
import warnings
from collections.abc import Callable
from logging import ERROR, LogRecord
from typing import NoReturn

from absl import app, flags, logging

from experiments.run import preemption
from optembed_jax.errors import (
    BudgetError,
    CheckpointError,
    DivergedError,
    InputError,
    Stopped,
    Told,
)

RENAMED_FLAGS = {"rent": "group_lasso", "retrain_rent": "retrain_group_lasso"}
"""Flags of earlier versions, and what they are called now."""

BUDGET_REFUSED = 4
"""Exit status where no table fits into the budget; 3 is that of ``processes.LOST``."""

TERMINATED = 128 + signal.SIGTERM
"""Exit status after SIGTERM of a command that does not go on: that of a process it ended."""

_HELP, _HELP_OF_ALL = frozenset({"help", "helpshort"}), frozenset({"helpfull", "helpxml"})
_FORMATTED = warnings.formatwarning

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run(main: Callable[[], None], goes_on: bool = True, also_taken: str | None = None) -> None:
    """Parse the flags and run ``main``.

    Exit status 2 and one line on stderr for an unknown or unreadable flag, a stray argument, or an
    ``InputError``, 4 where no table fits into the budget that was given; 1 for a run that diverged,
    or for which the disk had no room; 3 where another process was lost; 130 for Ctrl-C. After
    SIGTERM it is 0 where what was done is saved, and 143 of a main that would begin anew: what it
    was to write is not there, and a command behind it must not take an older file for it. Once
    ``main`` has ended, SIGTERM does not change the status any more: the process does nothing but
    end.

    Args:
      main: the command.
      goes_on: whether the same command goes on where it was stopped.
      also_taken: a module whose flags are taken, too, and imported only where one is given: of
        commands that do not read them, so that one flagfile serves all.
    """
    again = "the same command goes on" if goes_on else "start it anew: it may have written nothing"
    from_saved = " from what is saved" if goes_on else ""

    def guarded(arguments: list[str]) -> None:
        try:
            # Orbax and JAX log each step of theirs; --verbosity=0 shows it.
            if not flags.FLAGS["verbosity"].present:
                logging.set_verbosity(logging.WARNING)
                logging.get_absl_logger().addFilter(_is_ours_to_tell)
                _leave_out_late_answers()
            if len(arguments) > 1:
                raise InputError(f"{arguments[1]!r} is not a flag; flags look like --name=value")
            warnings.formatwarning = _warning_line
            with preemption.handled():
                _run_beside_others(main)
        except BudgetError as error:
            _fail(error, BUDGET_REFUSED)
        except InputError as error:
            _fail(error, 2)
        except (DivergedError, CheckpointError) as error:
            _fail(error, 1)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            _fail(f"{error}; make room: {again}", 1)
        except Stopped as stopped:
            if not goes_on:
                print(f"stopped by SIGTERM before its end: {again}", file=sys.stderr)
                sys.exit(TERMINATED)
            print(f"stopped by SIGTERM: {stopped}; {again}", file=sys.stderr)
        except KeyboardInterrupt:
            _fail(f"stopped from the keyboard; {again}{from_saved}", 130)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    app.run(guarded, flags_parser=functools.partial(_parse, also_taken=also_taken))


def _run_beside_others(main: Callable[[], None]) -> None:
    """Run a main that may be one of several processes; one without JAX is not."""
    try:
        main()
    except Exception as error:
        if "jax" in sys.modules:
            from experiments.run import processes  # Not above: it imports JAX.

            processes.end_if_a_peer_is_lost(error)
        raise


def _warning_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """A warning meant for people is one line without the source that it came from."""
    if issubclass(category, Told):
        return f"warning: {message}\n"
    return _FORMATTED(message, category, filename, lineno, line)


def _is_ours_to_tell(record: LogRecord) -> bool:
    """Leaves out the tracebacks that Orbax logs of errors that it also raises."""
    return "orbax" not in record.pathname or record.levelno < ERROR


def _leave_out_late_answers() -> None:
    """No traceback for each write of TensorStore that ends after Orbax has given up.

    When one of its writes fails, such as on a full disk, Orbax closes its event loop; the other
    writes then answer to a closed loop, from threads where nobody can catch what that raises
    (Orbax 0.12.8).
    """
    before = sys.unraisablehook

    def on_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
        late = unraisable.exc_type is RuntimeError and "Event loop is closed" in str(
            unraisable.exc_value
        )
        if not late:
            before(unraisable)

    sys.unraisablehook = on_unraisable


def _parse(arguments: list[str], also_taken: str | None) -> list[str]:
    try:
        if also_taken is not None:
            # Once: what is read of a pipe is not there a second time.
            arguments = [arguments[0], *flags.FLAGS.read_flags_from_files(arguments[1:])]
        asked = {a.lstrip("-").partition("=")[0] for a in arguments[1:] if a.startswith("-")}
        if also_taken is not None and (asked & _HELP_OF_ALL or _are_left(arguments, asked)):
            importlib.import_module(also_taken)
        if asked & {*_HELP, *_HELP_OF_ALL}:
            return app.parse_flags_with_usage(arguments)
        return _read(arguments)
    except flags.UnrecognizedFlagError as error:
        new = RENAMED_FLAGS.get(error.flagname)
        _fail(error if new is None else f"--{error.flagname} is called --{new} now", 2)
    except (flags.Error, OSError) as error:
        _fail(error, 2)


def _are_left(arguments: list[str], asked: set[str]) -> bool:
    """Whether there is more than flags that are known, and their values; nothing stays parsed."""
    if asked & _HELP:
        return False
    left = flags.FLAGS(arguments, known_only=True)
    flags.FLAGS.unparse_flags()
    return len(left) > 1


def _read(arguments: list[str]) -> list[str]:
    found = flags.FLAGS(arguments)
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        # absl's bounds let it pass, and so would every comparison that it takes part in.
        if any(number != number for number in (value if isinstance(value, list) else [value])):
            raise flags.IllegalFlagValueError(f"flag --{name}=nan: a number is needed")
    return found


def _fail(message: object, status: int) -> NoReturn:
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    sys.exit(status)
