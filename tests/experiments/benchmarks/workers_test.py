import functools
import json
import os
import time

import pytest
import working

from experiments.benchmarks.workers import Workers, complete, outcomes
from experiments.run import preemption
from optembed_jax.errors import InputError, Stopped

KEY = ("n",)


def up_to(last, records):
    """Runs 0 to ``last``, those that are not finished."""
    done = {record["n"] for record in records}
    return [{"n": n} for n in range(last + 1) if n not in done]


def test_every_run_is_done_once_each_worker_on_a_core_of_its_own():
    jobs = min(2, len(os.sched_getaffinity(0)))
    found = list(outcomes([], KEY, functools.partial(up_to, 7), working.where, Workers(jobs)))
    assert sorted(record["n"] for record in found) == list(range(8))
    cores = {record["pid"]: record["cores"] for record in found}
    assert os.getpid() not in cores and 1 <= len(cores) <= jobs
    assert all(len(numbers) == 1 for numbers in cores.values())
    assert len({tuple(numbers) for numbers in cores.values()}) == len(cores)


def test_what_is_wanted_is_asked_again_after_each_run():
    asked = []

    def wanted(records):
        asked.append(len(records))
        # The second run is only known of once the first is finished.
        return up_to(min(len(records), 2), records)

    found = [record["n"] for record in outcomes([], KEY, wanted, working.where, Workers())]
    assert found == [0, 1, 2] and asked == [0, 1, 2, 3]


def test_after_the_deadline_no_run_is_begun_and_the_last_is_kept(tmp_path):
    file, started = tmp_path / "runs.jsonl", time.monotonic()
    # The first run takes no time, but its worker some to begin; the second ends after the deadline.
    wanted = functools.partial(up_to, 50)
    waiting = lambda records: [{"n": 1.5}] if not records else wanted(records)  # noqa: E731
    records = complete(
        str(file), KEY, waiting, working.slowly, Workers(deadline=1.0), lambda *_: "ran"
    )
    assert records == [{"n": 1.5}] and time.monotonic() - started >= 1.5
    assert [json.loads(line) for line in file.read_text().splitlines()] == records


def test_what_stands_in_the_file_is_not_run_again(tmp_path, capsys):
    file = tmp_path / "runs.jsonl"
    file.write_text('{"n": 0}\n{"n": 2}\n')
    wanted = functools.partial(up_to, 3)
    told = lambda record, records: f"{record['n']} of {len(records)}"  # noqa: E731
    records = complete(str(file), KEY, wanted, working.where, Workers(), told)
    assert [record["n"] for record in records] == [0, 2, 1, 3]
    assert capsys.readouterr().out == "1 of 3\n3 of 4\n"
    assert complete(str(file), KEY, wanted, working.fails, Workers(), told) == records


def test_a_run_that_fails_ends_it_and_what_was_finished_stays(tmp_path):
    file = tmp_path / "runs.jsonl"
    file.write_text('{"n": 0}\n')
    wanted = functools.partial(up_to, 3)
    with pytest.raises(ValueError, match="no run 1"):
        complete(str(file), KEY, wanted, working.fails, Workers(), lambda *_: "")
    assert file.read_text() == '{"n": 0}\n'


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"jobs": 0}, "--jobs must be 1 to"),
        ({"jobs": 10_000}, "the cores, not 10000"),
        ({"deadline": 0.0}, "--deadline must be above 0, not 0.0"),
        ({"deadline": float("nan")}, "--deadline must be above 0, not nan"),
    ],
)
def test_a_value_out_of_range_says_so(values, message):
    with pytest.raises(InputError, match=message):
        Workers(**values)


def test_workers_that_a_signal_ends_with_their_group_end_in_one_line(tmp_path):
    file = tmp_path / "runs.jsonl"
    file.write_text('{"n": 0}\n')
    wanted = functools.partial(up_to, 2)
    with preemption.handled(), pytest.raises(Stopped):
        complete(str(file), KEY, wanted, working.ends_with_its_group, Workers(), lambda *_: "")
    assert file.read_text() == '{"n": 0}\n'
