import jax
import pytest
from jax.experimental import multihost_utils

from optembed_jax.storage import barrier


@pytest.mark.parametrize(("processes", "met"), [(1, []), (2, ["here"])])
def test_several_processes_meet_and_one_waits_for_nobody(monkeypatch, processes, met):
    # That they really wait for each other is seen in runs of several: processes_test.
    found = []
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    monkeypatch.setattr(multihost_utils, "sync_global_devices", found.append)
    barrier.wait("here")
    assert found == met
