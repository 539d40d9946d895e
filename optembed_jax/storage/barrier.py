"""Where the processes of a run wait for each other."""

import jax
from jax.experimental import multihost_utils


def wait(what: str) -> None:
    """Wait until all processes are here; one of its own goes on at once.

    Args:
      what: names the place, in errors too; the same in all processes.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)
