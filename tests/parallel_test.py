import dataclasses

import jax
import numpy as np

from optembed_jax.fit import fit, predict
from optembed_jax.forward import ModelConfig, Selection
from optembed_jax.parallel import one_device
from optembed_jax.train import Phase, TrainConfig, init_state

MODEL = ModelConfig("fm", 4, ())
TRAIN = TrainConfig(lr=0.02, l2=1e-5, t_lr=0.1, alpha=1e-3)


def test_training_and_prediction_go_through_the_steps_they_are_given(
    fields, draw_clicks, batches_of
):
    training = batches_of(*draw_clicks(fields, 64), 16, seed=0)
    validation = batches_of(*draw_clicks(fields, 40, seed=1), 16)
    how = {"phase": Phase.SUPERNET, "model": MODEL}
    steps, called = one_device(**how, train=TRAIN), []

    def counted(name):
        def call(*arguments):
            called.append(name)
            return getattr(steps, name)(*arguments)

        return call

    names = ("train", "evaluate", "bring_up_to_date", "place")
    counting = dataclasses.replace(steps, **{name: counted(name) for name in names})
    fits = [
        fit(
            init_state(jax.random.key(0), MODEL, TRAIN, fields),
            training,
            validation,
            Selection(),
            **how,
            train=TRAIN,
            epochs=2,
            patience=2,
            steps=given,
        )
        for given in (None, counting)
    ]
    for a, b in zip(*(jax.tree.leaves(fitted.params) for fitted in fits), strict=True):
        np.testing.assert_array_equal(a, b)
    assert {name: called.count(name) for name in names} == {
        "train": 8, "evaluate": 6, "bring_up_to_date": 2, "place": 2,
    }  # fmt: skip
    called.clear()
    predict(fits[0].params, fits[0].batch_stats, validation, Selection(), **how, steps=counting)
    assert called == ["evaluate"] * 3
