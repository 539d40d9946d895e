import io
import os
import pathlib
import sys

import pytest

from experiments.benchmarks import timed_steps
from experiments.benchmarks.timed_steps import Program, alternate, peak_bytes, serve

ROOT = pathlib.Path(__file__).parents[3]

COUNTING = """
import json, sys
print(json.dumps({"ready": True}), flush=True)
taken = 0
for line in sys.stdin:
    steps = int(line)
    if steps == 0:
        break
    numbers = list(range(taken, taken + steps))
    taken += steps
    print(json.dumps({"ms": [FACTOR * n for n in numbers], "cpu_ms": numbers}), flush=True)
print(json.dumps({"peak_bytes": 1000 * FACTOR}), flush=True)
"""
"""Each step takes as many milliseconds as there were steps before it."""


def counting(factor):
    return Program([sys.executable, "-c", COUNTING.replace("FACTOR", str(factor))], os.environ)


@pytest.mark.parametrize(
    ("steps", "counted"), [(1, [3, 4, 5, 6]), (3, [10, 11, 13, 14, 16, 17, 19, 20])]
)
def test_medians_are_of_the_turns_that_count_without_the_first_of_their_steps(steps, counted):
    found = alternate({"one": counting(1), "ten": counting(10)}, repeats=4, steps=steps)
    median = (counted[len(counted) // 2 - 1] + counted[len(counted) // 2]) / 2
    assert found == {
        "one": {"ms": median, "cpu_ms": median, "peak_bytes": 1000},
        "ten": {"ms": 10 * median, "cpu_ms": median, "peak_bytes": 10_000},
    }


def test_a_side_that_ends_early_ends_the_others_and_is_named():
    dying = Program([sys.executable, "-c", "raise SystemExit(3)"], os.environ)
    with pytest.raises(RuntimeError, match="side dying ended with exit status 3"):
        alternate({"ours": counting(1), "dying": dying}, repeats=1, steps=1)


def test_a_server_takes_the_batches_in_turn_and_answers_each_demand():
    taken, answered = [], []
    batches = [("a", 1), ("b", 2)]
    serve(lambda *batch: taken.append(batch), batches, answered.append, io.StringIO("1\n2\n0\n9\n"))
    assert taken == [("a", 1), ("b", 2), ("a", 1)]
    assert answered[0] == {"ready": True}
    assert [len(times["ms"]) for times in answered[1:3]] == [1, 2]
    assert all(t >= 0 for times in answered[1:3] for clock in times.values() for t in clock)
    assert answered[3]["peak_bytes"] > 1e6 and len(answered) == 4


def test_answers_are_alone_on_standard_output():
    program = (
        "from experiments.benchmarks.timed_steps import answers\n"
        "import os\n"
        "with answers() as answer:\n"
        "    os.system('echo said by a library')\n"
        "    answer({'a': 1})\n"
    )
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    side = timed_steps._Side("one", Program([sys.executable, "-c", program], variables))
    assert side.answer() == {"a": 1}
    side.end()


def test_the_peak_is_of_the_process_itself():
    held = bytearray(peak_bytes() + 50_000_000)
    held[::4096] = b"x" * len(held[::4096])
    here = peak_bytes()
    assert here > len(held)
    program = (
        "import json; from experiments.benchmarks.timed_steps import peak_bytes;"
        "print(json.dumps(peak_bytes()))"
    )
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    side = timed_steps._Side("one", Program([sys.executable, "-c", program], variables))
    assert 1e6 < side.answer() < here / 2
    side.end()
