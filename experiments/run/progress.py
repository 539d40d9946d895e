"""Progress of long work: one line that renews itself on a terminal, plain log lines elsewhere."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from optembed_jax import data

if TYPE_CHECKING:  # Preparing data shows progress, too, and takes no JAX.
    import jax

    from optembed_jax.training.resume import Epoch


def clock(seconds: float) -> str:
    """Seconds as ``h:mm:ss`` or ``m:ss``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


class Progress:
    """Tells a person how far a phase is. On a terminal the last line renews itself."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._shown = 0.0
        self._width = 0

    def say(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        print(text, file=self._stream, flush=True)

    def update(self, text: Callable[[], str]) -> None:
        """A line that the next one replaces; made at most five times a second, on a terminal."""
        now = time.monotonic()
        if not self._live or now - self._shown < 0.2:
            return
        self._shown = now
        line = text()
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)

    def _clear(self) -> None:
        if self._live and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._width = 0


class TrainingProgress:
    """The callbacks of ``fit``: a live line per step, a lasting line per epoch."""

    def __init__(
        self, progress: Progress, phase: str, epochs: int, batch_size: int, epoch: int = 1
    ) -> None:
        """Begins at ``epoch``."""
        self._progress = progress
        self._phase = phase
        self._epochs = epochs
        self._batch_size = batch_size
        self._epoch = epoch
        self._first: int | None = None
        self._started = time.monotonic()

    def on_step(self, step: int, steps: int, loss: "jax.Array") -> None:
        """Show the step, the rate, the loss and the time to the end of the epoch."""
        if self._first is None or step == 1:
            # An epoch that goes on begins later; its first step may have compiled.
            self._first, self._started = step, time.monotonic()
        done = step - self._first

        def line() -> str:
            value = float(loss)  # Waits for the step, so it is read only when it is shown.
            seconds = max(time.monotonic() - self._started, 1e-9)
            left = seconds / max(done, 1) * (steps - step)
            return (
                f"{self._phase}  epoch {self._epoch}/{self._epochs}  step {step}/{steps}  "
                f"{done * self._batch_size / seconds:,.0f} rows/s  loss {value:.4f}  "
                f"ETA of the epoch {clock(left)}"
            )

        self._progress.update(line)

    def on_epoch(self, epoch: "Epoch") -> None:
        """Leave a line about the epoch."""
        self._epoch = epoch.number + 1
        self._progress.say(
            f"{self._phase}  epoch {epoch.number}/{self._epochs}  "
            f"{epoch.rows_per_second:,.0f} rows/s  loss {epoch.loss:.4f}  "
            f"validation AUC {epoch.val_auc:.4f}  logloss {epoch.val_logloss:.4f}"
            f"{'  best' if epoch.best else '  as good within noise' if epoch.within_noise else ''}"
        )


class DataProgress:
    """The callback of ``data.prepare``: a live line, and one that stays for each stage."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stage = ""
        self._logged = time.monotonic()

    def __call__(self, now: data.Progress) -> None:
        """Show the stage, how much of it is done, the rate and the time to its end."""
        self._progress.update(lambda: _data_line(now))
        finished = now.total > 0 and now.done >= now.total
        # Without a terminal there is no live line: a line now and then tells that work goes on.
        if finished or now.stage != self._stage or time.monotonic() - self._logged > 15:
            self._stage, self._logged = now.stage, time.monotonic()
            self._progress.say(_data_line(now))


def _data_line(now: data.Progress) -> str:
    share = f"{now.done / now.total:4.0%}" if now.total else ""
    rate = f"{now.rows:,} rows  {now.rows_per_second:,.0f} rows/s" if now.rows else ""
    left = "" if now.seconds_left is None else f"ETA of the stage {clock(now.seconds_left)}"
    return "  ".join(part for part in (f"data: {now.stage}", share, rate, left) if part)
