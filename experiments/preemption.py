"""When a run is saved, and when it stops: SIGTERM, as machines that are taken away send it."""

import contextlib
import signal
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

    All that is written is written whole or not at all, so that a run can be stopped anywhere.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        _Request.made = True
        if not _Request.deferred:
            raise Stopped("SIGTERM")

    _Request.made = False
    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within it SIGTERM waits to be asked for, by :func:`requested`, or for the end."""
    _Request.deferred = True
    try:
        yield
    finally:
        _Request.deferred = False
    if _Request.made:
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
