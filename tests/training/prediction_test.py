import numpy as np
from param_shapes import shapes_of_params

from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.step.train_step import Phase
from optembed_jax.training.prediction import predict


def test_predict_reads_every_row_once_and_leaves_out_padding(
    fields, randomise, draw_clicks, batches_of
):
    model = ModelConfig("deepfm", 4, (4,), dropout=0.2)
    params, stats = randomise(shapes_of_params(model, fields))
    validation = batches_of(*draw_clicks(fields, 50, seed=2), 16)
    batches = []
    labels, logits, _ = predict(
        params,
        stats,
        validation,
        Selection(),
        phase=Phase.BASELINE,
        model=model,
        on_batch=lambda: batches.append(len(batches)),
    )
    assert batches == [0, 1, 2, 3]
    np.testing.assert_array_equal(labels, validation.labels)
    expected, _ = forward(model, params, stats, validation.ids, Selection())
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
