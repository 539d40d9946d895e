import pytest

from experiments.run.records import write_json
from experiments.run.warm_options import WarmOptions
from experiments.run.warm_record import begun_with, check_begun, told_before
from experiments.run.workdir import Workdir
from optembed_jax.errors import InputError

BEGUN = {"warm_start": "abc", "keep_shape": False, "row_memory": None}
NOTHING = {"warm_start": None, "keep_shape": None, "row_memory": None}


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path / "run")


def begin(workdir, phase, flags):
    workdir.start(phase, flags, "flights", "print")


@pytest.mark.parametrize("flags", [NOTHING, {"lr": 0.1}])
def test_a_run_from_nothing_began_with_nothing(workdir, flags):
    """Nor did one of a version that had no warm start and recorded no such flag."""
    assert begun_with(workdir) is None
    begin(workdir, "baseline", flags)
    assert begun_with(workdir) is None
    check_begun(workdir, ("baseline",), None)


def test_it_is_read_of_phases_that_are_finished_and_of_those_under_way(workdir):
    begin(workdir, "baseline", BEGUN)
    assert begun_with(workdir) == WarmOptions("abc", False, 0.0, "abc")
    remembered = BEGUN | {"row_memory": 0.5}
    workdir.finish("baseline", remembered, {})
    assert begun_with(workdir) == WarmOptions("abc", False, 0.5, "abc")


@pytest.mark.parametrize(
    ("told", "source"),
    [({"from": "a0", "source": "/runs/a0"}, "/runs/a0"), ({"from": "a0"}, "a0")],
)
def test_where_it_was_is_read_of_the_summary(workdir, told, source):
    """Older versions told the name alone."""
    assert told_before(workdir) is None
    begin(workdir, "retrain", BEGUN | {"keep_shape": True})
    write_json(workdir.path / "summary.json", {"flags": {}, "warm_start": told})
    assert told_before(workdir) == told
    assert begun_with(workdir) == WarmOptions(source, True, 0.0, "abc")


def test_the_last_phase_says_it(workdir):
    """A baseline from nothing may stand beside a shape that was kept, to compare with."""
    begin(workdir, "retrain", BEGUN | {"keep_shape": True})
    begin(workdir, "baseline", NOTHING)
    assert begun_with(workdir).keep_shape
    assert begun_with(workdir, ("baseline",)) is None
    check_begun(workdir, ("retrain",), WarmOptions("moved", True, 0.0, "abc"))


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (None, "this command is without --warm_start"),
        (WarmOptions("b", True, 0.0, "def"), r"--warm_start=b \(content def\) --keep_shape"),
        (WarmOptions("b", False, 0.0, "abc"), r"is with --warm_start=b \(content abc\): give"),
        (WarmOptions("b", True, 0.5, "abc"), r"--keep_shape --row_memory=0.5"),
    ],
)
def test_another_beginning_is_refused_by_what_it_was(workdir, now, told):
    begin(workdir, "retrain", BEGUN | {"keep_shape": True})
    with pytest.raises(InputError, match=told) as refused:
        check_begun(workdir, ("baseline", "retrain"), now)
    assert "begun with --warm_start (content abc) --keep_shape" in str(refused.value)


def test_a_start_is_not_added_to_what_began_from_nothing(workdir):
    begin(workdir, "baseline", NOTHING)
    with pytest.raises(InputError, match="was begun without --warm_start"):
        check_begun(workdir, ("baseline",), WarmOptions("b", False, 0.0, "def"))


def test_a_damaged_summary_is_told(workdir):
    begin(workdir, "baseline", BEGUN)
    (workdir.path / "summary.json").write_text("{")
    with pytest.raises(InputError, match=r"summary\.json cannot be read"):
        begun_with(workdir)
