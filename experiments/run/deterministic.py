"""``--deterministic``: on a GPU, sums in a fixed order and no kernels chosen by timing.

XLA has an option for that, which it reads once, when its first device is asked for. On a CPU one
seed gives one result anyway (``docs/scaling.md``).
"""

import os
import subprocess
import sys

from optembed_jax.errors import InputError

OPTION = "--xla_gpu_deterministic_ops"
"""It excludes kernels that sum in any order, and also the choice among kernels by timing."""


def ask_for() -> None:
    """Put the option into ``XLA_FLAGS``; to be called before JAX has a device.

    Raises:
      InputError: the variable says the contrary, or the jaxlib at hand has no such option.
    """
    words = os.environ.get("XLA_FLAGS", "").split()
    said = [word for word in words if word.split("=")[0] == OPTION]
    if said and said[-1] not in (OPTION, f"{OPTION}=true", f"{OPTION}=1"):
        raise InputError(f"--deterministic, and XLA_FLAGS has {said[-1]}: leave one of them out")
    if said:
        return
    if not is_known(OPTION):
        raise InputError(
            f"--deterministic needs XLA's {OPTION}, which the jaxlib that is installed does not "
            "know; leave it out, or install another jaxlib"
        )
    os.environ["XLA_FLAGS"] = " ".join([*words, f"{OPTION}=true"])


def is_known(option: str) -> bool:
    """Whether the jaxlib at hand has an option, a switch.

    Asked of a process of its own, since XLA ends the process that asks for one that it has not. A
    plugin for GPUs is of the same release as jaxlib, by how JAX pins them.
    """
    program = "import jax; jax.devices()"
    surroundings = {**os.environ, "XLA_FLAGS": f"{option}=true", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=surroundings, capture_output=True, check=False
    )
    return done.returncode == 0
