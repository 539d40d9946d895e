"""The saved states of a training under way, written in the background.

Orbax's own sequence of checkpoints (``training.Checkpointer``) knows no checksums, so
:class:`Checkpoints` keeps the few states of a phase itself.
"""

import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from optembed_jax.errors import CheckpointError, InputError
from optembed_jax.storage import barrier, state_manifest, state_structure
from optembed_jax.storage.object_store import absolute
from optembed_jax.storage.saved_state import read, restore, uninterrupted

State = TypeVar("State")


@dataclasses.dataclass(frozen=True)
class Restored(Generic[State]):
    """A checkpoint that was read.

    Attributes:
      step: its number.
      state: its arrays.
      position: what was saved beside them.
    """

    step: int
    state: State
    position: dict[str, Any]


class Checkpoints:
    """The states of a phase under way: the latest two, and those that they refer to.

    ``FOLDER/<step>`` is a saved state whose manifest also holds the position of the data and of
    the loop. A state is copied to the host, and written in the background: saving again, or
    :meth:`wait`, waits for it. In a run of several processes each of them calls every method, and
    the first one writes the manifests and removes what is no longer needed.

    Attributes:
      last: the newest finished step; None before there is one.
    """

    def __init__(self, folder: epath.PathLike) -> None:
        self._folder = absolute(folder)
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._pending: concurrent.futures.Future[None] | None = None
        self._needs: dict[int, list[int]] = {}
        self.last: int | None = None

    def path(self, step: int) -> epath.Path:
        """The folder of a step."""
        return self._folder / str(step)

    def save(
        self, step: int, state: Any, position: Mapping[str, Any], needs: Iterable[int] = ()
    ) -> None:
        """Begin to save; the state may be donated as soon as this returns.

        Args:
          step: number of the checkpoint; what is there already is replaced.
          state: pytree of arrays and PRNG keys.
          position: JSON of where the data and the loop stand.
          needs: steps that are of no less use than this one, and are kept with it.

        Raises:
          CheckpointError: this one, or the one before, cannot be written.
        """
        self.wait()
        folder = self.path(step)
        try:
            if jax.process_index() == 0:
                self._folder.mkdir(parents=True, exist_ok=True)
                state_manifest.remove(folder)
            savable = state_structure.savable(state)
            writing = uninterrupted(ocp.save_async, folder, savable, overwrite=True)
        except Exception as error:  # Orbax and TensorStore raise many kinds.
            raise self._failed(folder, error) from error
        structure = {state_structure.STRUCTURE: state_structure.describe(state)}
        manifest = {"position": dict(position), "needs": sorted(needs), **structure}
        self._pending = self._thread.submit(self._finish, step, manifest, writing.result)

    def _finish(self, step: int, manifest: dict[str, Any], written: Callable[[], Any]) -> None:
        """In the background: wait for Orbax, then make it count, then make room."""
        written()
        newest = list(self._needs)[-1:]
        needs = {known: self._needs[known] for known in newest} | {step: manifest["needs"]}
        if jax.process_index() == 0:
            state_manifest.write(self.path(step), manifest)
            self._keep({*needs, *(need for steps in needs.values() for need in steps)})
        self._needs, self.last = needs, step

    def restore(self, step: int, like: State) -> State:
        """Read a step that a later one needs.

        Raises:
          InputError: it is not there, or damaged.
        """
        return restore(self.path(step), like, way_out=self._from_the_beginning)

    @property
    def _from_the_beginning(self) -> str:
        return f"remove {self._folder.parent} to start from the beginning"

    def check(self) -> None:
        """Raise what went wrong in the background, without waiting for anything.

        Nor for the other processes, whose writing may not be done yet when this one's is.

        Raises:
          CheckpointError: a state cannot be written; the message names the last good one.
        """
        pending = self._pending
        if pending is not None and pending.done() and pending.exception() is not None:
            self.wait()

    def wait(self) -> None:
        """Wait until what was saved is finished.

        Raises:
          CheckpointError: it cannot be written; the message names the last good one.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except Exception as error:  # Orbax and TensorStore raise many kinds.
            raise self._failed(self._folder, error) from error
        barrier.wait(f"saved in {self._folder}")

    def close(self) -> None:
        """Let what is being written finish, or fail; there is nothing to save any more."""
        self._thread.shutdown()

    def latest(
        self, like: State, on_damage: Callable[[str], None] = lambda message: None
    ) -> Restored[State] | None:
        """The newest checkpoint that is good, together with all that it refers to.

        Args:
          like: as in :func:`restore`.
          on_damage: told of each newer one that cannot be used, and why.

        Returns:
          It; None where none was ever finished.

        Raises:
          InputError: there are finished ones, and none is good; the message names them.
        """
        unfinished, damaged = [], []
        for step in sorted(self._steps(), reverse=True):
            if not state_manifest.is_finished(self.path(step)):
                unfinished.append(f"checkpoint {self.path(step)} was never finished")
                continue
            try:
                manifest = state_manifest.verify(self.path(step))
                for need in manifest["needs"]:
                    state_manifest.verify(self.path(need))
                state = read(self.path(step), like)
            except InputError as error:
                damaged.append(f"checkpoint {step} cannot be used: {error}")
                continue
            self._clear()
            for problem in unfinished + damaged:
                on_damage(f"{problem}; going on from checkpoint {step}")
            self._needs, self.last = {step: manifest["needs"]}, step
            return Restored(step, state, manifest["position"])
        if damaged:
            raise InputError(
                f"no checkpoint in {self._folder} is good: {'; '.join(damaged)}; "
                f"{self._from_the_beginning}"
            )
        self._clear()
        for problem in unfinished:
            on_damage(f"{problem}; starting from the beginning")
        return None

    def _steps(self) -> list[int]:
        if not self._folder.exists():
            return []
        return [int(path.name) for path in self._folder.iterdir() if path.name.isdecimal()]

    def _keep(self, steps: set[int]) -> None:
        """Remove all others, and what was left unfinished."""
        for path in self._folder.iterdir():
            if not (path.name.isdecimal() and int(path.name) in steps):
                state_manifest.remove(path)

    def _clear(self) -> None:
        """Make room: remove what was never finished."""
        if jax.process_index() == 0 and self._folder.exists():
            self._keep(
                {step for step in self._steps() if state_manifest.is_finished(self.path(step))}
            )

    def _failed(self, folder: epath.Path, error: Exception) -> CheckpointError:
        """The error for a person, after what was half written has made room."""
        with contextlib.suppress(OSError):  # Other threads of Orbax may still be writing.
            self._clear()
        good = "there is no good one yet"
        if self.last is not None:
            good = f"the last good one is {self.path(self.last)}"
        return CheckpointError(f"the checkpoint in {folder} cannot be written: {error}; {good}")
