import dataclasses
import itertools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax import metrics
from optembed_jax.devices.parallel import one_device
from optembed_jax.errors import CheckpointError, DivergedError, InputError, Stopped
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import init_params
from optembed_jax.models.selection import Selection
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import init_state
from optembed_jax.step.train_step import Phase
from optembed_jax.training.checkpoint import Checkpoints
from optembed_jax.training.early_stopping import EarlyStopping
from optembed_jax.training.fit import Fitted, fit
from optembed_jax.training.prediction import predict
from optembed_jax.training.resume import Epoch, Position, Saving, resume

MODEL = ModelConfig("deepfm", 4, (4,), dropout=0.2)
TRAIN = TrainConfig(lr=0.02, l2=1e-5, t_lr=0.1, alpha=1e-3)


@pytest.fixture
def splits(fields, draw_clicks, batches_of):
    """Training rows whose labels are half noise, and 50 validation rows in batches of 16."""
    ids, labels = draw_clicks(fields, 128, seed=1)
    labels[::2] = np.random.default_rng(0).integers(0, 2, 64)
    return (
        batches_of(ids, labels, 16, seed=0),
        batches_of(*draw_clicks(fields, 50, seed=2), 16),
    )


def run(
    splits, fields, *, seed=0, epochs=3, patience=3, model=MODEL, train=TRAIN, state=None, **options
):
    if state is None:
        state = init_state(jax.random.key(seed), model, train, fields)
    return fit(
        state,
        *splits,
        Selection(),
        phase=Phase.SUPERNET,
        model=model,
        train=train,
        epochs=epochs,
        patience=patience,
        **options,
    )


def trees_equal(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all((np.asarray(x) == np.asarray(y)).all() for x, y in pairs)


def test_epochs_are_those_of_a_loop_by_hand(fields, splits):
    seen = {"steps": [], "epochs": []}
    fitted = run(
        splits,
        fields,
        on_step=lambda index, total, loss: seen["steps"].append((index, total, float(loss))),
        on_epoch=seen["epochs"].append,
    )
    # The very program of the loop: another one may round otherwise.
    step = one_device(Phase.SUPERNET, MODEL, TRAIN).train
    training, validation = splits
    state = init_state(jax.random.key(0), MODEL, TRAIN, fields)
    losses, kept, aucs = [], [], []
    for epoch in (1, 2, 3):
        for batch in training.epoch(epoch):
            state, loss = step(state, batch.ids, batch.labels, Selection())
            losses.append(float(loss))
        labels, logits, _ = predict(
            state.params, state.batch_stats, validation, Selection(),
            phase=Phase.SUPERNET, model=MODEL,
        )  # fmt: skip
        aucs.append(metrics.auc(labels, logits))
        kept.append(jax.tree.map(jnp.copy, (state.params, state.batch_stats)))
        assert fitted.epochs[epoch - 1].val_logloss == metrics.logloss(labels, logits)
        assert fitted.epochs[epoch - 1].loss == pytest.approx(np.mean(losses[-8:]), rel=1e-6)
    assert [epoch.val_auc for epoch in fitted.epochs] == aucs
    assert [epoch.number for epoch in fitted.epochs] == [1, 2, 3]
    assert seen["epochs"] == list(fitted.epochs)
    assert seen["steps"] == [(index % 8 + 1, 8, loss) for index, loss in enumerate(losses)]
    assert trees_equal((fitted.params, fitted.batch_stats), kept[int(np.argmax(aucs))])
    assert all(epoch.rows_per_second > 0 for epoch in fitted.epochs)


def test_training_stops_when_patience_ends_and_keeps_the_best_epoch(fields, splits):
    whole = run(splits, fields, epochs=30, patience=30)
    aucs = [epoch.val_auc for epoch in whole.epochs]
    assert len(aucs) == 30
    assert int(np.argmax(aucs)) < 29, "the case must get worse after its best epoch"
    for patience in (1, 2):
        stop, best = 30, 0
        for number in range(2, 31):
            if aucs[number - 1] > aucs[best]:
                best = number - 1
            elif number - 1 - best >= patience:
                stop = number
                break
        assert stop < 30, "the case must stop early"
        fitted = run(splits, fields, epochs=30, patience=patience)
        assert [epoch.val_auc for epoch in fitted.epochs] == aucs[:stop]
        assert fitted.best.number == best + 1
        flags = [auc > max(aucs[:i], default=-1) for i, auc in enumerate(aucs[:stop])]
        assert [epoch.best for epoch in fitted.epochs] == flags
        labels, logits, _ = predict(
            fitted.params, fitted.batch_stats, splits[1], Selection(),
            phase=Phase.SUPERNET, model=MODEL,
        )  # fmt: skip
        assert metrics.auc(labels, logits) == fitted.best.val_auc


def test_the_first_of_equal_epochs_is_the_best():
    scores = [(1, 0.5, True), (2, 0.7, True), (3, 0.7, False)]
    epochs = tuple(Epoch(n, 0.0, auc, 0.0, 1.0, 1.0, best) for n, auc, best in scores)
    assert Fitted(None, None, epochs).best.number == 2


def test_training_may_stop_by_logloss_and_keeps_its_best_epoch(fields, splits):
    stopping = EarlyStopping("logloss")
    fitted = run(splits, fields, seed=4, epochs=30, patience=2, stopping=stopping)
    losses = [epoch.val_logloss for epoch in fitted.epochs]
    aucs = [epoch.val_auc for epoch in fitted.epochs]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 < 30 and fitted.best.number == best + 1
    assert best != int(np.argmax(aucs)), "the case must tell the criteria apart"
    labels, logits, _ = predict(
        fitted.params, fitted.batch_stats, splits[1], Selection(),
        phase=Phase.SUPERNET, model=MODEL,
    )  # fmt: skip
    assert metrics.logloss(labels, logits) == losses[best]


@pytest.mark.parametrize(("by", "seed"), [("auc", 5), ("logloss", 6)])
def test_noise_spends_no_patience(fields, splits, by, seed):
    loop = {"seed": seed, "epochs": 30, "patience": 1}
    patient = run(splits, fields, stopping=EarlyStopping(by, errors=2.0), **loop)
    plain = run(splits, fields, stopping=EarlyStopping(by), **loop)
    assert len(plain.epochs) < len(patient.epochs) < 30, "50 rows tell little, but not nothing"
    same = [
        dataclasses.replace(epoch, within_noise=False, undecided=False, rows_per_second=0)
        for epoch in patient.epochs
    ]
    assert [dataclasses.replace(epoch, rows_per_second=0) for epoch in plain.epochs] == same[
        : len(plain.epochs)
    ]
    assert not any(epoch.best and epoch.within_noise for epoch in patient.epochs)
    assert not patient.epochs[-1].best and not patient.epochs[-1].within_noise


def test_the_rate_is_cut_on_a_plateau_and_patience_counts_from_there(fields, splits):
    plain = run(splits, fields, epochs=30, patience=2)
    cut = dataclasses.replace(TRAIN, lr_plateau="0.1")
    fitted = run(splits, fields, epochs=30, patience=2, train=cut)
    best = [epoch.best for epoch in fitted.epochs]
    first_cut = best.index(False) + 1
    for epoch, same in zip(fitted.epochs[:first_cut], plain.epochs[:first_cut], strict=True):
        assert (epoch.loss, epoch.val_auc) == (same.loss, same.val_auc)
    assert len(best) > first_cut and len(best) < 30
    last_cut = max(number for number, is_best in enumerate(best, 1) if is_best) + 1
    assert len(best) == last_cut + 2, "two epochs after the cut that followed the best"
    # The next epoch by hand, a tenth as fast.
    training, _ = splits
    state = init_state(jax.random.key(0), MODEL, TRAIN, fields)
    loss = None
    for epoch in range(1, first_cut + 2):
        train = TRAIN if epoch <= first_cut else dataclasses.replace(TRAIN, lr=2e-3, t_lr=1e-2)
        step, losses = one_device(Phase.SUPERNET, MODEL, train).train, []
        for batch in training.epoch(epoch):
            state, loss = step(state, batch.ids, batch.labels, Selection())
            losses.append(float(loss))
        assert fitted.epochs[epoch - 1].loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_schedule_sets_the_rate_of_each_epoch(fields, splits):
    """At a rate of 0 nothing moves but the statistics of batches."""
    still = "linear_schedule:end_value=0,transition_steps=1"
    train = dataclasses.replace(TRAIN, lr_schedule=still)
    one, three = (run(splits, fields, epochs=n, patience=9, train=train) for n in (1, 3))
    plain = run(splits, fields, epochs=1)
    assert trees_equal(one.params, plain.params)
    state = init_state(jax.random.key(0), MODEL, train, fields)
    assert not trees_equal(state.params.table, one.params.table)
    assert trees_equal(three.params, one.params)


def test_one_seed_gives_one_result_bit_for_bit(fields, splits):
    first, same, other = (run(splits, fields, seed=seed, epochs=2) for seed in (0, 0, 1))
    assert trees_equal((first.params, first.batch_stats), (same.params, same.batch_stats))
    for a, b in zip(first.epochs, same.epochs, strict=True):
        assert (a.loss, a.val_auc, a.val_logloss) == (b.loss, b.val_auc, b.val_logloss)
    assert not trees_equal(first.params, other.params)
    assert first.epochs[0].loss != other.epochs[0].loss


def test_a_table_kept_in_bfloat16_comes_out_in_float32(fields, splits):
    train = dataclasses.replace(TRAIN, table_dtype="bfloat16")
    assert init_state(jax.random.key(0), MODEL, train, fields).params.table.rows.dtype == np.uint16
    rows = np.asarray(run(splits, fields, epochs=1, train=train).params.table.rows)
    assert rows.dtype == np.float32 and len(np.unique(rows)) > 10
    assert not (rows.view(np.uint32) & 0xFFFF).any()  # What bfloat16 has.


def test_what_retraining_starts_from_can_be_used_again(fields, splits):
    start = init_params(jax.random.key(0), MODEL, fields)
    frozen = Selection(rows=np.arange(12) % 4 != 0, dims=np.array([1, 2, 4], np.int32))
    fits = [
        fit(
            init_state(jax.random.key(seed), MODEL, TRAIN, fields, start=start),
            *splits,
            frozen,
            phase=Phase.RETRAIN,
            model=MODEL,
            train=TRAIN,
            epochs=1,
            patience=1,
        )
        for seed in (0, 0, 1)
    ]
    assert trees_equal(fits[0].params, fits[1].params)
    assert not trees_equal(fits[0].params, fits[2].params)


def test_a_loss_that_is_no_number_says_where(fields, splits, draw_clicks, batches_of):
    ids, labels = draw_clicks(fields, 64)
    labels[20] = np.nan
    with pytest.raises(DivergedError, match="supernet: the loss became nan at step 2 of epoch 1"):
        run((batches_of(ids, labels, 16), splits[1]), fields)


def test_divergence_in_the_last_step_of_an_epoch_is_noticed(
    fields, splits, draw_clicks, batches_of
):
    one_batch = batches_of(*draw_clicks(fields, 16), 16, seed=0)
    wild = TrainConfig(lr=1e30)
    with pytest.raises(DivergedError, match="lower the learning rate"):
        run((one_batch, splits[1]), fields, train=wild)


def test_a_validation_split_of_one_class_is_an_input_error(fields, splits, batches_of):
    validation = batches_of(splits[1].ids, np.zeros(50, np.float32), 16)
    with pytest.raises(InputError, match="all 50 labels are 0"):
        run((splits[0], validation), fields)


@pytest.mark.parametrize("limits", [{"epochs": 0, "patience": 1}, {"epochs": 1, "patience": 0}])
def test_no_epoch_and_no_patience_are_refused(fields, splits, limits):
    with pytest.raises(InputError, match="epochs and patience must be at least 1"):
        fit(
            init_state(jax.random.key(0), MODEL, TRAIN, fields),
            *splits,
            Selection(),
            phase=Phase.BASELINE,
            model=MODEL,
            train=TRAIN,
            **limits,
        )


@pytest.fixture
def life(splits, fields, tmp_path):
    """Runs ``fit`` from what is saved, as a process would that was started again."""

    def life(stop=lambda: False, due=lambda step: False, splits=splits, **options):
        model, train = options.get("model", MODEL), options.get("train", TRAIN)
        checkpoints = Checkpoints(tmp_path / "checkpoints")

        def begin():
            return init_state(
                jax.random.key(0), model, train, fields, gather_scores=model.has_row_budget
            )

        state, position = resume(checkpoints, jax.eval_shape(begin)) or (begin(), None)
        try:
            return run(
                splits,
                fields,
                state=state,
                position=position,
                saving=Saving(checkpoints, due, stop),
                **options,
            )
        finally:
            checkpoints.close()

    return life


def after(polls):
    """Asks to stop when it was asked so many times."""
    counter = itertools.count(1)
    return lambda: next(counter) == polls


def assert_same_outcome(fitted, expected):
    assert trees_equal(
        (fitted.params, fitted.batch_stats, fitted.scores),
        (expected.params, expected.batch_stats, expected.scores),
    )
    assert fitted.steps == expected.steps
    for a, b in zip(fitted.epochs, expected.epochs, strict=True):
        assert dataclasses.replace(a, rows_per_second=b.rows_per_second) == b


FAST = dataclasses.replace(TRAIN, lr=0.1)
SPARSE = {
    "model": dataclasses.replace(
        MODEL, mode_threshold="budget", row_keep=0.5, row_score="mean_norm"
    ),
    "train": dataclasses.replace(
        FAST, table_update="sparse", row_decay="group_lasso", group_lasso=1e-4
    ),
}


CUT = {
    "train": dataclasses.replace(
        SPARSE["train"],
        lr_plateau="0.3",
        lr_schedule="exponential_decay:transition_steps=2,decay_rate=0.5",
        table_l2=0.1,
    )
}
ROWWISE = {
    "train": dataclasses.replace(
        SPARSE["train"],
        table_optimiser="rowwise_adagrad",
        table_dtype="bfloat16",
        table_lr=0.05,
        lr_plateau="0.3",
    )
}
NOISE = {"stopping": EarlyStopping("logloss", errors=0.5)}


@pytest.mark.parametrize(
    "settings",
    [{}, SPARSE, NOISE, CUT, ROWWISE],
    ids=["dense", "sparse-with-scores", "noise", "changing-rate", "rowwise"],
)
def test_a_run_stopped_again_and_again_ends_as_one_never_stopped(
    fields, splits, life, tmp_path, settings
):
    settings = {"train": FAST, **settings, "epochs": 6, "patience": 6}
    whole = life(**settings)
    assert whole.best.number < 6, "the best epoch must be read again from its checkpoint"
    assert (whole.scores is not None) == bool(settings.get("model"))
    # Lives of 5 to 11 questions: 8 steps of an epoch and 4 batches of validation.
    for lives, polls in enumerate(itertools.cycle([5, 11, 7, 8, 6])):
        try:
            shutil.rmtree(tmp_path / "checkpoints") if lives == 0 else None
            fitted = life(stop=after(polls), **settings)
            break
        except Stopped as stopped:
            assert str(tmp_path / "checkpoints") in str(stopped)
    assert lives > 6
    assert_same_outcome(fitted, whole)


def test_saving_changes_nothing(fields, splits, life):
    plain = run(splits, fields, epochs=30, patience=2)
    saved = life(due=lambda step: step % 3 == 0, epochs=30, patience=2)
    assert not plain.epochs[-1].best
    assert_same_outcome(saved, plain)


def test_a_run_killed_between_checkpoints_goes_on_from_the_last_one(life, tmp_path):
    whole = life()
    shutil.rmtree(tmp_path / "checkpoints")

    def kill(index, total, loss):
        if index == 7:
            raise KeyboardInterrupt  # No more orderly than a signal, and it leaves no process.

    with pytest.raises(KeyboardInterrupt):
        life(due=lambda step: step % 3 == 0, on_step=kill)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] in (["3", "6"], ["6", "3"])
    first = []
    fitted = life(on_step=lambda index, total, loss: first.append(index))
    assert first[0] == 7
    assert_same_outcome(fitted, whole)


def test_the_position_does_not_depend_on_where_the_epoch_was_cut():
    history = (
        Epoch(1, 0.1 + 0.2, 0.7, 0.5, 1.1, 3.0, True),
        Epoch(2, 0.3, 0.6, 0.5, 0.9, 3.0, False),
    )
    position = Position(3, 5, 1.7, 80, 0.25, history)
    assert Position.from_json(json.loads(json.dumps(dataclasses.asdict(position)))) == position
    assert position.best == history[0]
    assert not position.is_over(3, 2) and position.is_over(2, 2) and position.is_over(3, 1)
    assert not Position().is_over(1, 1)


def test_a_ruined_state_is_never_saved(fields, splits, life, tmp_path, batches_of):
    bad = splits[0].labels.copy()
    order = np.random.default_rng((0, 2)).permutation(128)
    bad[order[16 * 5]] = np.nan  # Read in step 6 of epoch 2.
    first = run(splits, fields, epochs=1)

    class Batches(type(splits[0])):
        def epoch(self, epoch, start=0):
            data = splits[0] if epoch == 1 else batches_of(splits[0].ids, bad, 16, seed=0)
            return data.epoch(epoch, start)

    batches = Batches(splits[0].ids, splits[0].labels, 16, seed=0)
    folder = tmp_path / "checkpoints"
    with pytest.raises(
        DivergedError,
        match=f"supernet: the loss became nan at step 6 of epoch 2; "
        f"the last good checkpoint: {folder}/12; lower",
    ):
        life(due=lambda step: step % 4 == 0, splits=(batches, splits[1]))
    assert sorted(int(path.name) for path in folder.iterdir()) == [8, 12]
    with pytest.raises(DivergedError, match=f"step 6 of epoch 2.*{folder}/12"):
        life(splits=(batches, splits[1]))
    fitted = life(epochs=2)
    assert trees_equal(fitted.epochs[0].loss, first.epochs[0].loss)


def test_a_step_that_ruins_the_model_is_noticed_before_it_is_saved(life, tmp_path):
    sound = one_device(Phase.SUPERNET, MODEL, TRAIN)

    def ruin(state, *batch):
        state, loss = sound.train(state, *batch)
        thresholds = jax.numpy.where(state.step == 4, jax.numpy.inf, state.params.thresholds)
        params = dataclasses.replace(state.params, thresholds=thresholds)
        return dataclasses.replace(state, params=params), loss

    with pytest.raises(
        DivergedError,
        match="supernet: after step 4 of epoch 1 the model is no longer finite; "
        f"the last good checkpoint: {tmp_path}/checkpoints/2; lower the learning rate",
    ):
        life(due=lambda step: step % 2 == 0, steps=dataclasses.replace(sound, train=ruin))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]


def test_a_checkpoint_that_cannot_be_written_ends_training(splits, fields, tmp_path):
    (tmp_path / "checkpoints").write_text("a file in the way")
    with pytest.raises(CheckpointError, match=r"cannot be written.*no good one yet"):
        run(splits, fields, saving=Saving(Checkpoints(tmp_path / "checkpoints")))


@pytest.fixture
def weighted(splits):
    """The same splits, whose rows weigh from 0 to 3."""
    rng = np.random.default_rng(4)
    return tuple(
        dataclasses.replace(split, weights=rng.integers(0, 4, len(split.ids)).astype(np.float32))
        for split in splits
    )


def test_weights_count_in_the_loss_and_in_what_an_epoch_is_judged_by(fields, splits, weighted):
    fitted = run(weighted, fields, epochs=2)
    step, state = one_device(Phase.SUPERNET, MODEL, TRAIN).train, None
    state = init_state(jax.random.key(0), MODEL, TRAIN, fields)
    for batch in weighted[0].epoch(1):
        state, _ = step(state, batch.ids, batch.labels, Selection(), batch.weights)
    predicted = predict(
        state.params,
        state.batch_stats,
        weighted[1],
        Selection(),
        phase=Phase.SUPERNET,
        model=MODEL,
    )
    assert len(predicted.labels) == (weighted[1].weights > 0).sum(), "weight 0: the row is absent"
    again = np.repeat(np.arange(len(predicted.labels)), predicted.weights.astype(int))
    assert fitted.epochs[0].val_auc == pytest.approx(
        metrics.auc(predicted.labels[again], predicted.logits[again]), abs=1e-12
    )
    plain = run(splits, fields, epochs=2)
    assert fitted.epochs[0].loss != plain.epochs[0].loss


def test_weights_of_one_are_no_weights(fields, splits):
    ones = tuple(
        dataclasses.replace(split, weights=np.ones(len(split.ids), np.float32)) for split in splits
    )
    fitted, plain = run(ones, fields, epochs=2), run(splits, fields, epochs=2)
    for a, b in zip(jax.tree.leaves(fitted.params), jax.tree.leaves(plain.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    assert fitted.best.val_auc == pytest.approx(plain.best.val_auc, abs=2e-3)


def test_a_weighted_training_that_was_stopped_goes_on_bit_for_bit(fields, weighted, life):
    whole = run(weighted, fields, epochs=2)
    with pytest.raises(Stopped):
        life(stop=after(5), splits=weighted, epochs=2)
    assert_same_outcome(life(splits=weighted, epochs=2), whole)
