"""When a run is saved, and when it stops: SIGTERM, as machines that are taken away send it."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from optembed_jax.errors import InputError, Stopped


class _Request:
    """Whether SIGTERM has come, and whether somebody will ask."""

    made = False
    deferred = False


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Within it SIGTERM raises ``Stopped``, or is :func:`deferred`.

    All that is written is written whole or not at all, so that a run can be stopped anywhere. Where
    what is raised would be printed and forgotten, SIGTERM comes again a little later: in callbacks
    of the garbage collector, such as JAX has one, and in finalisers.
    """
    again: list[threading.Timer] = []

    def come_again() -> None:
        timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        again.append(timer)
        timer.start()

    def on_signal(number: int, frame: FrameType | None) -> None:
        _Request.made = True
        if not _Request.deferred:
            raise Stopped("SIGTERM")

    def on_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
        if issubclass(unraisable.exc_type, Stopped):
            come_again()
        else:
            hook_before(unraisable)

    hook_before, sys.unraisablehook = sys.unraisablehook, on_unraisable
    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        for timer in again:
            timer.cancel()
            timer.join()
        signal.signal(signal.SIGTERM, before)
        sys.unraisablehook = hook_before
        _Request.made = False  # It was of what ended here.


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within it SIGTERM waits to be asked for, by :func:`requested`, or for the outermost end."""
    before, _Request.deferred = _Request.deferred, True
    try:
        yield
    finally:
        _Request.deferred = before
    if _Request.made and not before:
        raise Stopped("SIGTERM")


def requested() -> bool:
    """Whether SIGTERM has come."""
    return _Request.made


def every(interval: str) -> Callable[[int], bool]:
    """Tells, of the steps taken so far, whether to save now.

    Args:
      interval: a number of steps, such as ``500``, or of seconds, such as ``60s``.

    Raises:
      InputError: it is neither.
    """
    number = interval.removesuffix("s")
    if not number.isdecimal() or int(number) < 1:
        raise InputError(
            f"checkpoint_every must be a number of steps, such as 500, or of seconds, such as "
            f"60s, not {interval!r}"
        )
    if number == interval:
        return lambda step: step % int(number) == 0
    saved = time.monotonic()

    def is_due(step: int) -> bool:
        nonlocal saved
        if time.monotonic() - saved < int(number):
            return False
        saved = time.monotonic()
        return True

    return is_due
