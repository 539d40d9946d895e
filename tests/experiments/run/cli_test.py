import errno
import sys
import warnings

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from experiments.run import cli, processes
from optembed_jax.errors import BudgetError, DivergedError, InputError, Stopped
from optembed_jax.serving.forward_module import ForwardRebuilt
from optembed_jax.values.cells import CutValues
from optembed_jax.values.unseen import UnseenValues


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("row 3 of a.csv\nhas no label"), 2),
        (BudgetError("no table fits into 3 bytes"), 4),
        (DivergedError("the loss became nan"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_expected_end_is_one_line_and_a_status(command, capsys, error, status):
    assert command(raising(error)) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


@pytest.mark.parametrize(
    ("error", "goes_on", "status", "said"),
    [
        (Stopped("step 7 is saved"), True, 0, "step 7 is saved; the same command goes on"),
        (
            Stopped("SIGTERM"),
            False,
            143,
            "before its end: start it anew: it may have written nothing",
        ),
        (KeyboardInterrupt(), True, 130, "; the same command goes on from what is saved"),
        (KeyboardInterrupt(), False, 130, "; start it anew: it may have written nothing"),
        (OSError(errno.ENOSPC, "No space left"), True, 1, ": the same command goes on"),
        (
            OSError(errno.ENOSPC, "No space left"),
            False,
            1,
            ": start it anew: it may have written nothing",
        ),
    ],
)
def test_what_does_not_go_on_has_not_succeeded(command, capsys, error, goes_on, status, said):
    assert command(raising(error), goes_on=goes_on) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(said)


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("--no_such_flag=1", "no_such_flag"),
        ("--latent_dim=many", "latent_dim"),
        ("--max_auc_drop=nan", "--max_auc_drop=nan"),
        ("--lr=NaN", "--lr=nan"),
        ("--row_keep=nan", "--row_keep=nan"),
        ("--max_auc_drop=-1", "max_auc_drop"),
        ("stray", "'stray'"),
        ("--flagfile=nowhere.flags", "nowhere.flags"),
    ],
)
def test_an_unusable_argument_is_named(command, capsys, argument, named):
    assert command(lambda: pytest.fail("ran all the same"), argument) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and named in line


@pytest.mark.parametrize("category", [CutValues, ForwardRebuilt, UnseenValues])
def test_a_warning_meant_for_people_is_one_line(command, category):
    assert command(lambda: None) == 0
    said = warnings.formatwarning(category("what it is"), category, "file.py", 1)
    assert said == "warning: what it is\n"


def test_a_main_that_succeeds_exits_with_0(command):
    ran = []
    assert command(lambda: ran.append(1)) == 0
    assert ran == [1]


def test_a_defect_of_the_program_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main"])
    with flagsaver.flagsaver(), pytest.raises(ZeroDivisionError):
        absl_flags.FLAGS.unparse_flags()
        cli.run(raising(ZeroDivisionError()))


@pytest.mark.parametrize("with_jax", [True, False])
def test_what_ended_a_main_may_be_that_another_process_is_gone(command, monkeypatch, with_jax):
    asked = []
    monkeypatch.setattr(processes, "end_if_a_peer_is_lost", asked.append)
    if not with_jax:
        monkeypatch.delitem(sys.modules, "jax")
    error = InputError("no answer")
    assert command(raising(error)) == 2
    assert asked == [error] * with_jax


@pytest.mark.parametrize(
    ("given", "known", "status"),
    [
        (["--own=3"], False, 0),
        (["--own=3", "--of_others=x", "--own=4"], True, 0),
        (["--of_others", "x", "--own", "4"], True, 0),
        (["--of_others", "--own=3", "4"], True, 2),  # which it was given as a value
        (["--named", "help", "--of_others=x"], True, 0),
        (["--own=many", "--of_others=x"], False, 2),
        (["--undefok=of_others", "--of_others", "4"], True, 0),
        (["--undefok=no_such", "--no_such=4"], False, 0),
        (["--no_such=4"], True, 2),
        (["stray"], True, 2),
    ],
)
def test_flags_of_others_are_looked_up_where_one_is_given(monkeypatch, given, known, status):
    own = absl_flags.FlagValues()
    absl_flags.DEFINE_integer("own", 0, "Its own.", flag_values=own)
    absl_flags.DEFINE_string("named", "", "Its own, too.", flag_values=own)
    absl_flags.DEFINE_string("undefok", "", "As absl has it.", flag_values=own)
    read = []

    def look_up(module):
        read.append(module)
        absl_flags.DEFINE_string("of_others", "", "Not its own.", flag_values=own)

    monkeypatch.setattr(cli.flags, "FLAGS", own)
    monkeypatch.setattr(cli.importlib, "import_module", look_up)
    try:
        left = cli._parse(["main", *given], "others")
        found = 2 if len(left) > 1 else 0
    except SystemExit as ended:
        found = ended.code
    assert (read == ["others"]) == known and found == status


def test_a_flag_of_an_earlier_version_is_refused_by_its_new_name(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["main", "--rent=0.1"])
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: None)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: --rent is called --group_lasso now\n"


def test_what_nobody_can_catch_is_told_unless_it_is_a_late_answer_to_a_closed_loop(
    command, monkeypatch
):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    class Unraisable:
        def __init__(self, error):
            self.exc_type, self.exc_value = type(error), error

    late, other = Unraisable(RuntimeError("Event loop is closed")), Unraisable(ValueError("other"))

    def main():
        sys.unraisablehook(late)
        sys.unraisablehook(other)

    assert command(main) == 0
    assert told == [other]
