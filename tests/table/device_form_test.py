import jax
import pytest

from optembed_jax.table import device_form
from optembed_jax.table.device_form import (
    CPU,
    is_cpu,
    kind_at_hand,
    memory_speed,
    rows_at_once,
    updates_sparsely,
)

D = 64


@pytest.mark.parametrize(
    ("device", "rows", "sparse"),
    [
        (CPU, 10_000, False),
        (CPU, 1_000_000, True),
        # As was measured of the step there (docs/scaling.md).
        ("NVIDIA H200", 100_000, False),
        ("NVIDIA H200", 1_000_000, False),
        ("NVIDIA H200", 5_000_000, True),
        # A fifteenth of that memory speed.
        ("Tesla T4", 100_000, False),
        ("Tesla T4", 1_000_000, True),
    ],
)
def test_auto_is_dense_for_tables_that_are_small_beside_the_memory_s_speed(device, rows, sparse):
    assert updates_sparsely("auto", rows, rows * (D + 1), device) == sparse
    assert updates_sparsely("sparse", rows, rows * (D + 1), device)
    assert not updates_sparsely("dense", rows, rows * (D + 1), device)


def test_few_rows_are_never_sparse_and_many_numbers_in_them_do_not_count_on_a_cpu():
    assert not updates_sparsely("auto", 1000, 10**12, "NVIDIA H200")
    assert updates_sparsely("auto", 100_000, 100_000, CPU)


def test_kinds_are_found_by_the_longest_name_that_fits():
    assert memory_speed("TPU v5 lite") < memory_speed("TPU v4") < memory_speed("TPU v5")
    assert memory_speed("NVIDIA L4") < memory_speed("NVIDIA A100-SXM4-80GB")
    assert memory_speed("NVIDIA H200") == 4.8e12
    assert memory_speed("some kind that nobody heard of") == 1e12


def test_the_first_device_says_what_was_not_said(monkeypatch):
    assert kind_at_hand() == CPU and is_cpu(None) and is_cpu(CPU) and not is_cpu("NVIDIA H200")
    assert rows_at_once(None, 7) == rows_at_once(CPU, 7) == 7 < rows_at_once("TPU v4", 7)
    devices = [type("Device", (), {"platform": "gpu", "device_kind": "Tesla T4"})()]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    assert kind_at_hand() == "Tesla T4" and not is_cpu(None)
    assert device_form.swept_at_once(None, 7) > 7
    assert updates_sparsely("auto", 1_000_000, 65_000_000, None)
