import os
import subprocess
import sys

import pytest

from experiments.benchmarks import process_tree

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="no /proc")

MB = 2**20


def told(code: str) -> process_tree.Used:
    return process_tree.run([sys.executable, "-c", code])


def test_memory_is_that_of_all_processes_and_not_of_who_measures():
    """The one who measures holds 300 MB: what was told of a small process held that too."""
    held = bytearray(os.urandom(1)) * (300 * MB)
    small = told("import time; time.sleep(1.2)")
    large = told("import time; held = bytearray(b'a') * (200 * 2**20); time.sleep(1.2)")
    assert len(held) == 300 * MB
    assert 2 * MB < small.peak_bytes < 100 * MB
    assert 200 * MB <= large.peak_bytes < 300 * MB
    child = "import time; held = bytearray(b'a') * (150 * 2**20); time.sleep(1.5)"
    both = told(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    assert both.peak_bytes >= 150 * MB


def test_a_peak_that_is_over_when_one_looks():
    code = "import time; held = bytearray(b'a') * (200 * 2**20); del held; time.sleep(1.2)"
    assert told(code).peak_bytes >= 200 * MB


BUSY = """
import sys, time
end = time.process_time() + 0.3
while time.process_time() < end:
    pass
sys.exit(3)
"""


def test_time_and_status():
    used = told(BUSY)
    assert used.status == 3
    assert 0.3 <= used.cpu_seconds < 30 and used.seconds >= 0.3


def test_descendants_are_those_that_were_started():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.pid in process_tree.descendants(os.getpid())
        assert process_tree.descendants(process.pid) == [process.pid]
        process.communicate(b"\n")
