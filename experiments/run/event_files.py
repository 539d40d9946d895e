"""``--tensorboard``: the epochs of ``metrics.jsonl`` as event files that TensorBoard reads."""

import contextlib
import importlib.util
import shutil
import time
from collections.abc import Callable, Iterator, Sequence

from etils.epath import Path

from experiments.run import processes
from optembed_jax.errors import InputError
from optembed_jax.storage.object_store import in_bucket
from optembed_jax.training.resume import Epoch

POINTS = ("loss", "val_auc", "val_logloss", "val_calibration", "rows_per_second")
"""Attributes of an epoch that are drawn, each over the number of the epoch."""


def check_installed() -> None:
    """Refuse ``--tensorboard`` without the package that writes the files.

    Raises:
      InputError: it is not there.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise InputError(
            "--tensorboard needs tensorboardX: pip install 'optembed-jax[tensorboard]'"
        )


@contextlib.contextmanager
def written(
    is_asked: bool, folder: Path, history: Sequence[Epoch]
) -> Iterator[Callable[[Epoch], None]]:
    """Write the epochs of a phase to ``tensorboard/`` in its folder.

    What is there is of a run that was interrupted, perhaps in an epoch that is repeated now, so the
    files are made anew from the history: no point is there twice, and none is missing.

    Args:
      is_asked: else nothing is written, and what is there stays.
      folder: the phase's.
      history: the epochs before.

    Yields:
      What is to be called with each epoch, as it ends.

    Raises:
      InputError: the folder is in a bucket, where the writer cannot write.
    """
    if is_asked and in_bucket(folder):
        raise InputError(f"tensorboard needs a --workdir in a file system, not {folder}")
    if not is_asked or not processes.is_first():
        yield lambda epoch: None
        return
    # Not where it is not asked for: it is an extra. Not its SummaryWriter, whose flush leaves what
    # a thread of its own has not written yet (tensorboardX 2.6.5).
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import scalar

    events = folder / "tensorboard"
    shutil.rmtree(events, ignore_errors=True)
    events.mkdir(parents=True)
    writer = EventsWriter(str(events / "events"))

    def add(epoch: Epoch) -> None:
        now = time.time()
        for name in POINTS:
            value = scalar(name, getattr(epoch, name))
            writer.write_event(Event(wall_time=now, step=epoch.number, summary=value))
        writer.flush()

    try:
        for epoch in history:
            add(epoch)
        yield add
    finally:
        writer.close()
