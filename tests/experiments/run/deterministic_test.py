import os
import subprocess
import sys

import pytest

from experiments.run import deterministic
from experiments.run.deterministic import OPTION, ask_for, is_known
from optembed_jax.errors import InputError


def test_the_option_is_put_beside_others_before_jax_has_a_device():
    # XLA ends a process that asks for an option it has not, as soon as there is a device: so none
    # was there after all that a run imports, and what is put into the variable then is read.
    program = (
        "import os\n"
        "from experiments.run import deterministic, runs\n"
        "deterministic.ask_for()\n"
        "print(os.environ['XLA_FLAGS'])\n"
        "os.environ['XLA_FLAGS'] += ' --xla_no_such_option=true'\n"
        "import jax; jax.devices()\n"
    )
    surroundings = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=surroundings, capture_output=True, text=True
    )
    assert done.stdout.split() == ["--xla_force_host_platform_device_count=2", f"{OPTION}=true"]
    assert done.returncode != 0 and "xla_no_such_option" in done.stderr


def test_an_option_that_jaxlib_has_not(monkeypatch):
    assert not is_known("--xla_no_such_option")
    monkeypatch.setattr(deterministic, "is_known", lambda option: False)
    monkeypatch.setenv("XLA_FLAGS", "--some=1")
    with pytest.raises(InputError, match="jaxlib that is installed does not know"):
        ask_for()
    assert os.environ["XLA_FLAGS"] == "--some=1"


@pytest.mark.parametrize("said", [OPTION, f"{OPTION}=true", f"{OPTION}=1"])
def test_what_was_asked_for_is_left_as_it_is(monkeypatch, said):
    monkeypatch.setattr(deterministic, "is_known", lambda option: False)
    monkeypatch.setenv("XLA_FLAGS", f"--some=1 {said}")
    ask_for()
    assert os.environ["XLA_FLAGS"] == f"--some=1 {said}"


def test_the_contrary_is_refused(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"{OPTION}=false")
    with pytest.raises(InputError, match="leave one of them out"):
        ask_for()
