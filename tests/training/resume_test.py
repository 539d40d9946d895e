import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.models.params import Params
from optembed_jax.step.learning_rate import Plateau
from optembed_jax.step.train_state import TrainState
from optembed_jax.training.checkpoint import Checkpoints
from optembed_jax.training.early_stopping import Judged
from optembed_jax.training.resume import Epoch, Position, best_of, resume


def position_after(*aucs, within_noise=()):
    """Where training stands after epochs of these validation AUCs, by which it is to stop."""
    position = Position()
    for number, auc in enumerate(aucs, 1):
        best = position.merit is None or auc > position.merit
        epoch = Epoch(number, 0.5, auc, 0.4, 1.1, 1_000.0, best, number in within_noise)
        position = position.after(epoch, Judged(auc, 0.4, 1.1, auc, (auc, 0.1)))
    return position


def history(*aucs):
    return position_after(*aucs).history


@pytest.mark.parametrize(
    ("aucs", "best"), [((0.7,), 1), ((0.6, 0.8, 0.7), 2), ((0.7, 0.7), 1), ((0.5, 0.6, 0.9), 3)]
)
def test_the_first_epoch_of_the_best_auc_is_the_best(aucs, best):
    assert best_of(history(*aucs)).number == best
    position = position_after(*aucs)
    assert position.best.number == best and position.epoch == len(aucs) + 1
    assert (position.merit, position.influence) == (max(aucs), (max(aucs), 0.1))


def test_before_the_first_validation_there_is_no_best():
    assert Position().best is None
    with pytest.raises(ValueError, match="empty"):
        best_of(())


@pytest.mark.parametrize(
    ("aucs", "epochs", "patience", "over"),
    [
        ((), 1, 1, False),
        ((0.7,), 1, 1, True),  # as many as asked for
        ((0.7,), 9, 1, False),
        ((0.7, 0.6), 9, 1, True),  # one without a new best
        ((0.7, 0.6), 9, 2, False),
        ((0.7, 0.6, 0.8), 9, 2, False),  # the count starts again
        ((0.7, 0.6, 0.7), 9, 2, True),  # as good as the best is no new best
    ],
)
def test_training_is_over_after_the_epochs_or_out_of_patience(aucs, epochs, patience, over):
    assert position_after(*aucs).is_over(epochs, patience) == over


@pytest.mark.parametrize(
    ("within_noise", "patience", "over"),
    [
        ((), 3, True),
        ((3,), 3, False),
        ((3,), 2, True),
        ((3, 4), 1, True),
        ((3, 4, 5), 1, False),
        ((1, 2), 3, True),  # before the best there is nothing to wait for
    ],
)
def test_epochs_within_noise_of_the_best_spend_no_patience(within_noise, patience, over):
    position = position_after(0.6, 0.8, 0.7, 0.5, 0.6, within_noise=within_noise)
    assert position.is_over(9, patience) == over
    assert position.is_over(5, patience)


def test_a_plateau_waits_where_the_validation_cannot_tell():
    position = position_after(0.8, 0.7, 0.75, 0.7)
    told = [
        dataclasses.replace(epoch, undecided=number < 4)
        for number, epoch in enumerate(position.history, 1)
    ]
    blurred, plateau = dataclasses.replace(position, history=tuple(told)), Plateau(0.1)
    assert position.is_over(9, 2, plateau) and not blurred.is_over(9, 1, plateau)
    assert blurred.is_over(4, 1, plateau)


def test_a_position_survives_json_to_the_last_bit():
    # The sum of losses is added one after another, so a lost bit would show in the reported mean.
    position = Position(
        3, 7, 0.1 + 0.2, 700, 1.0 / 3.0, history(0.7, 2.0 / 3.0), 0.7, (0.1, 1.0 / 3.0)
    )
    assert Position.from_json(json.loads(json.dumps(dataclasses.asdict(position)))) == position
    assert Position.from_json(json.loads(json.dumps(dataclasses.asdict(Position())))) == Position()


def state(step):
    return TrainState(
        step=jnp.int32(step),
        params=Params(table=jnp.full((3, 2), step / 3.0), thresholds=None, network={}),
        batch_stats={},
        opt_state=(),
        key=jax.random.key(step),
        lr_scale=jnp.float32(1),
    )


@pytest.fixture
def open_checkpoints(tmp_path):
    """Opens the phase's checkpoints as a new process does."""
    opened = []

    def open_them():
        opened.append(Checkpoints(tmp_path / "phase"))
        return opened[-1]

    yield open_them
    for checkpoints in opened:
        checkpoints.close()


@pytest.fixture
def saved(open_checkpoints):
    """Checkpoints of step 5, within the first epoch, and of step 9, its end."""
    writing = open_checkpoints()
    for step, position in (
        (5, Position(1, 5, 5 * 0.1)),
        (9, Position(2, 0, history=history(0.7))),
    ):
        writing.save(step, state(step), dataclasses.asdict(position))
        writing.wait()
    return open_checkpoints()


def test_nothing_saved_is_a_beginning(open_checkpoints):
    assert resume(open_checkpoints(), jax.eval_shape(lambda: state(0))) is None


def test_it_goes_on_at_the_newest(saved):
    found, position = resume(saved, jax.eval_shape(lambda: state(0)))
    assert position == Position(2, 0, history=history(0.7))
    expected = state(9)
    assert int(found.step) == 9 and found.params.thresholds is None
    np.testing.assert_array_equal(found.params.table, expected.params.table)
    np.testing.assert_array_equal(jax.random.bits(found.key), jax.random.bits(expected.key))


def test_a_damaged_newest_is_told_and_the_one_before_taken(saved):
    def damage(step):
        largest = max(
            (path for path in pathlib.Path(saved.path(step)).rglob("*") if path.is_file()),
            key=lambda path: path.stat().st_size,
        )
        content = largest.read_bytes()
        largest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    told = []
    damage(9)
    found, position = resume(saved, jax.eval_shape(lambda: state(0)), told.append)
    assert int(found.step) == position.batch == 5 and position.loss == 5 * 0.1
    assert len(told) == 1 and "damaged" in told[0]
    damage(5)
    with pytest.raises(InputError, match=r"no checkpoint in .* is good"):
        resume(saved, jax.eval_shape(lambda: state(0)), told.append)
