"""``--profile_steps=A:B``: what the device does in some steps of a training phase, for XProf."""

import contextlib
import re
from collections.abc import Callable, Iterator

import jax
from etils.epath import Path

from optembed_jax.errors import InputError
from optembed_jax.storage.object_store import in_bucket


def steps_of(text: str | None) -> range | None:
    """The steps that ``A:B`` names, from 1, both ends included; None of none.

    Raises:
      InputError: it names none.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(
            f"profile_steps must be the first and the last step, such as 10:20, not {text!r}"
        )
    return range(int(found[1]), int(found[2]) + 1)


@contextlib.contextmanager
def traced(
    steps: range | None, folder: Path, say: Callable[[str], None]
) -> Iterator[Callable[[jax.Array], None]]:
    """Write a trace of some steps, as ``jax.profiler`` does.

    Args:
      steps: which, of those that are taken here, from 1; None traces nothing.
      folder: the phase's; the trace is in ``profile/`` there.
      say: told where it is.

    Yields:
      What is to be called with the loss of each step.

    Raises:
      InputError: the folder is in a bucket, where JAX's profiler cannot write.
    """
    if steps is None:
        yield lambda loss: None
        return
    if in_bucket(folder):
        raise InputError(f"profile_steps needs a --workdir in a file system, not {folder}")
    taken, is_running = 0, False

    def start() -> None:
        nonlocal is_running
        jax.profiler.start_trace(folder / "profile")
        is_running = True

    def stop() -> None:
        nonlocal is_running
        jax.profiler.stop_trace()
        is_running = False
        if taken >= steps[0]:
            say(f"steps {steps[0]} to {taken} are traced in {folder / 'profile'}, for XProf")

    def on_step(loss: jax.Array) -> None:
        nonlocal taken
        taken += 1
        if taken + 1 == steps[0] or taken == steps[-1]:
            jax.block_until_ready(loss)  # Steps run behind the loop that asks for them.
        if taken + 1 == steps[0]:
            start()
        elif taken == steps[-1]:
            stop()

    if steps[0] == 1:
        start()
    try:
        yield on_step
    finally:
        if is_running:
            stop()
        if taken < steps[0]:
            say(f"no step is traced: there were {taken}, and profile_steps begins at {steps[0]}")
