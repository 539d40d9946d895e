import multiprocessing
import pathlib
import threading
import time

import numpy as np
import pytest

from experiments.benchmarks import runtime_turns
from experiments.benchmarks.runtime_turns import Request

ONE, TWO = (Request(np.zeros((rows, 3), np.int32), {"a": ["x"] * rows}) for rows in (1, 2))


def sleeping(seconds):
    """A runtime whose calls take so long for each row."""

    def load(folder):
        def make(request):
            return lambda: time.sleep(seconds * len(request.ids))

        return {f"sleeps_{folder.name}": make}

    return load


def served(load, folder, requests):
    end, other = multiprocessing.Pipe()
    thread = threading.Thread(
        target=runtime_turns._serve, args=(other, load, folder, requests), daemon=True
    )
    thread.start()
    return end, thread


def test_each_runtime_is_timed_for_each_request(monkeypatch):
    monkeypatch.setattr(runtime_turns, "_SECONDS", 0.0)
    quick, slow = (
        served(sleeping(seconds), pathlib.Path(name), [ONE, TWO])
        for name, seconds in (("quick", 0.0), ("slow", 0.02))
    )
    found = runtime_turns._ask([quick[0], slow[0]], 2, 1)
    assert found.keys() == {f"sleeps_{n}_{rows}_ms" for n in ("quick", "slow") for rows in (1, 2)}
    assert found["sleeps_slow_1_ms"] >= 20 and found["sleeps_slow_2_ms"] >= 40
    assert found["sleeps_quick_2_ms"] < 20
    for end, thread in (quick, slow):
        end.close()  # nobody asks any more
        thread.join(10)
        assert not thread.is_alive()


def test_short_calls_are_repeated_and_their_median_taken():
    waits = iter([0.2] + [0.0] * 1000)
    assert runtime_turns._turn(lambda: time.sleep(next(waits))) >= 200  # over after one
    waits = iter([0.05] + [0.0] * 100_000)
    assert runtime_turns._turn(lambda: time.sleep(next(waits, 0.0))) < 50


def test_a_process_that_ends_is_told():
    end, other = multiprocessing.Pipe()
    other.close()
    with pytest.raises(RuntimeError, match="ended"):
        runtime_turns._ask([end], 1, 1)
