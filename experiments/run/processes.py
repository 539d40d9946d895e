"""A run of several processes: how they find each other, who writes, and what they agree on.

Every process runs the same program on the same flags and one shared ``--workdir``. The first one
writes what is not an array; arrays are written by those that hold them.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

from experiments.run import preemption
from optembed_jax.errors import InputError, Stopped

HEARTBEAT_SECONDS = 20
"""How long a process may be silent before the others give up on it."""

LOST = 3
"""Exit status of a process that lost another one."""

_SIGNS = ("Gloo", "UNAVAILABLE", "Barrier", "oordination", "heartbeat", "Connection")
"""Of an error whose cause is in another process."""

_ASKED_EVERY = 16  # steps; asking costs a round trip of all processes


def connect(
    mode: str, coordinator_address: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Find the other processes, before anything else of JAX is used.

    Args:
      mode: ``auto`` connects on a Cloud TPU of several workers, or where a coordinator is given;
        ``on`` connects, and lets JAX find out what is not given; ``off`` does not.
      coordinator_address: ``host:port`` of the first process.
      num_processes: how many there are.
      process_id: which this is, from 0.

    Raises:
      InputError: no such mode, only a part of the addresses, or no answer.
    """
    if mode not in ("auto", "on", "off"):
        raise InputError(f"distributed must be one of auto, on, off, not {mode!r}")
    given = [part is not None for part in (coordinator_address, num_processes, process_id)]
    if any(given) and not all(given):
        raise InputError(
            "--coordinator_address, --num_processes and --process_id go together: all or none"
        )
    if mode == "off" or (mode == "auto" and not any(given) and not _is_tpu_pod()):
        return
    # Forced host devices, or tests: the processes talk through sockets.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # It would take SIGTERM for itself, which ``preemption`` waits for.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            # One that failed alone must not wait at its exit for others that wait for it.
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the processes did not find each other: {error}") from error


def is_first() -> bool:
    """Whether this process is the one that writes and speaks.

    One alone is, and does not ask JAX, which would take the devices to answer.
    """
    is_alone = not (jax.distributed.is_initialized() or _is_tpu_pod())
    return is_alone or jax.process_index() == 0


def say(text: str) -> None:
    """Print a result, once for all processes."""
    if is_first():
        print(text)


def agreed(ask: Callable[[], bool]) -> Callable[[], bool]:
    """A question that all processes answer alike: yes, once one of them would say so."""
    if jax.process_count() == 1:
        return ask
    calls, said = 0, False

    def together() -> bool:
        nonlocal calls, said
        calls, said = calls + 1, said or ask()
        if calls % _ASKED_EVERY:
            return False
        answer, said = agreed_now(said), False
        return answer

    return together


def agreed_due(interval: str) -> Callable[[int], bool]:
    """:func:`preemption.every`, answered alike by clocks that differ."""
    due = preemption.every(interval)
    if jax.process_count() == 1 or not interval.endswith("s"):
        return due
    ask = agreed(lambda: due(0))
    return lambda step: ask()


@contextlib.contextmanager
def stopping_together() -> Iterator[None]:
    """Within it, of several processes, SIGTERM stops none before :func:`stop_if_asked` stops all.

    One that stopped alone would leave the others waiting for it.
    """
    with preemption.deferred() if jax.process_count() > 1 else contextlib.nullcontext():
        yield


def stop_if_asked(before: str) -> None:
    """Stop all processes if SIGTERM was sent to one of them; to call where all come past.

    A process of its own stops wherever SIGTERM finds it.

    Raises:
      Stopped: there are several processes, and one was asked to stop.
    """
    if jax.process_count() > 1 and agreed_now(preemption.requested()):
        raise Stopped(f"before {before}")


def agreed_now(said: bool) -> bool:
    """Whether one of the processes says so; they wait for each other."""
    return bool(multihost_utils.process_allgather(said).any())


def end_if_a_peer_is_lost(error: Exception) -> None:
    """End this process, status 3 and one line, where a collective's other end is gone.

    Args:
      error: what ended the main; Gloo, Orbax and the service raise many kinds.
    """
    if jax.process_count() == 1 or not any(sign in str(error) for sign in _SIGNS):
        return
    cause = " ".join(str(error).split())[:300]
    print(
        f"error: process {jax.process_index()} of {jax.process_count()} cannot go on; most "
        "likely another one is gone. Start all of them again with the same command: the run "
        f"goes on from its last checkpoint. ({cause})",
        file=sys.stderr,
        flush=True,
    )
    # The usual exit would wait for the others.
    os._exit(LOST)


def _is_tpu_pod() -> bool:
    return len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1
