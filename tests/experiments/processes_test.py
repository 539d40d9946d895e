"""Several processes on one machine, over loopback."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from experiments import processes
from optembed_jax.errors import InputError

SMALL = [
    "--dataset=synthetic",
    "--synthetic_rows=1000",
    "--synthetic_field_size=20",
    "--synthetic_signal_fields=2",
    "--synthetic_noise_fields=1",
    "--latent_dim=4",
    "--mlp_dims=6",
    "--mode=none",
    "--batch_size=128",
    "--epochs=3",
    "--patience=3",
]


def losses_of(workdir, data_dir, count, *flags):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
    }
    command = [sys.executable, "-m", "experiments.baseline", *SMALL, f"--workdir={workdir}"]
    command += [f"--data_dir={data_dir}", *flags]
    started = []
    for number in range(count):
        own = ["--coordinator_address", f"127.0.0.1:{port}", f"--num_processes={count}"]
        own = [*own, f"--process_id={number}"] if count > 1 else []
        started.append(
            subprocess.Popen(
                [*command, *own], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        )
    for number, process in enumerate(started):
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, (number, output.decode())
    lines = (workdir / "baseline" / "metrics.jsonl").read_text().splitlines()
    assert json.loads((workdir / "baseline" / "result.json").read_text())["test_auc"] > 0
    return [json.loads(line)["loss"] for line in lines]


def test_two_processes_train_as_one_does(tmp_path):
    one = losses_of(tmp_path / "one", tmp_path / "data", 1)
    two = losses_of(tmp_path / "two", tmp_path / "data", 2, "--parallelism=sharded")
    assert len(one) == 3
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-4)


def test_half_an_address_is_refused():
    with pytest.raises(InputError, match="go together: all or none"):
        processes.connect("auto", "127.0.0.1:1", None, None)
    with pytest.raises(InputError, match="distributed must be one of auto, on, off"):
        processes.connect("maybe", None, None, None)


def test_one_process_agrees_with_itself_and_waits_for_nobody():
    processes.wait("nothing")
    assert processes.is_first()
    assert processes.agreed(lambda: True)()
    assert processes.agreed_due("2")(4) and not processes.agreed_due("2")(5)
