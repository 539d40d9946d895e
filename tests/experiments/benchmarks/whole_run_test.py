import sys
import time

import pytest

from experiments.benchmarks.whole_run import PHASES, _timeless, run
from experiments.run import workdir

WORKER = "import time; block = b'1' * {size}; print(len(block)); time.sleep({seconds})"
HELD = """
import subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
block = b"1" * {size}
sys.exit(worker.wait())
"""


def test_memory_is_that_of_a_command_and_its_workers_together():
    size = 2**26
    worker = WORKER.format(size=size, seconds=1.5)
    life = run([sys.executable, "-c", HELD.format(size=size), worker])
    assert 2 * size < life["peak_bytes"] < 2 * size + 2**26
    assert life["seconds"] >= 1.5 and not life["killed"]


def test_a_command_is_killed_when_it_is_late_and_may_be():
    command, asked = [sys.executable, "-c", "import time; time.sleep(60)"], []

    def at_the_second_time():
        asked.append(time.monotonic())
        return len(asked) == 2

    life = run(command, 0.3, at_the_second_time)
    assert life["killed"] and 0.3 < life["seconds"] < 30 and len(asked) == 2
    assert not run([sys.executable, "-c", ""], 0.0, lambda: False)["killed"]


def test_a_command_that_fails_says_why():
    with pytest.raises(SystemExit, match="no such thing"):
        run([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_what_is_compared_has_no_timings():
    summary = {"seconds": 1, "retrain": {"val_auc": 0.7, "rows_per_second": 3}, "list": [{"a": 1}]}
    assert _timeless(summary) == {"retrain": {"val_auc": 0.7}, "list": [{"a": 1}]}


def test_all_phases_of_a_run_are_gone_through():
    assert set(PHASES) > set(workdir.PHASES) - {"verify", "tune", "choose"}
