import io

import jax.numpy as jnp

from experiments.run.progress import Progress, TrainingProgress, clock
from optembed_jax.training.resume import Epoch


class Terminal(io.StringIO):
    def isatty(self):
        return True


EPOCH = Epoch(
    number=1,
    loss=0.5,
    val_auc=0.75,
    val_logloss=0.45,
    val_calibration=1.05,
    rows_per_second=12345.6,
    best=True,
)


def test_clock():
    assert clock(0) == "0:00"
    assert clock(59.6) == "1:00"
    assert clock(3661) == "1:01:01"


def test_elsewhere_than_on_a_terminal_only_whole_lines_are_written():
    stream = io.StringIO()
    training = TrainingProgress(Progress(stream), "supernet", 3, 10)
    for step in (1, 2):
        training.on_step(step, 2, jnp.float32(0.5))
    training.on_epoch(EPOCH)
    assert stream.getvalue() == (
        "supernet  epoch 1/3  12,346 rows/s  loss 0.5000  validation AUC 0.7500  "
        "logloss 0.4500  best\n"
    )


def test_a_terminal_line_renews_itself_and_makes_way_for_a_lasting_one():
    stream = Terminal()
    training = TrainingProgress(Progress(stream), "supernet", 3, 10)
    training.on_step(1, 4, jnp.float32(0.5))
    live = stream.getvalue()
    assert live.startswith("\rsupernet  epoch 1/3  step 1/4")
    assert "loss 0.5000" in live and "ETA" in live and "\n" not in live
    training.on_epoch(EPOCH)
    erased = "\r" + " " * (len(live) - 1) + "\r"
    assert stream.getvalue()[len(live) :].startswith(erased + "supernet  epoch 1/3")


def test_a_terminal_line_is_not_made_more_often_than_it_can_be_read():
    stream, made = Terminal(), []
    progress = Progress(stream)
    for number in range(100):
        progress.update(lambda number=number: made.append(number) or str(number))
    assert made[0] == 0 and len(made) < 10
