import jax.numpy as jnp
import numpy as np
import pytest
from param_shapes import shapes_of_params

from optembed_jax import metrics
from optembed_jax.errors import InputError
from optembed_jax.fitness.field_importance import field_importance
from optembed_jax.fitness.validation_fitness import make_fitness
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection


@pytest.mark.parametrize("model", ["deepfm", "ipnn"])
def test_it_is_the_fitness_lost_without_the_field(model, fields, randomise, draw_clicks):
    config = ModelConfig(model=model, latent_dim=4, mlp_dims=())
    params, stats = randomise(shapes_of_params(config, fields), seed=4)
    if params.table.linear is not None:  # Which no dimension takes away.
        params = params.replace(table=params.table.replace(linear=jnp.zeros(12)))
    ids, labels = draw_clicks(fields, 37)
    fitness = make_fitness(
        config, params, stats, None, ids, labels, measure="logloss", fields=fields
    )

    def score(dims):
        selection = Selection(dims=jnp.asarray(dims, jnp.int32))
        return -metrics.logloss(
            labels, np.asarray(forward(config, params, stats, ids, selection)[0])
        )

    found = field_importance(fitness, np.array([3, 0, 2]))
    expected = [score([3, 0, 2]) - score(without) for without in ([0, 0, 2], [3, 0, 2], [3, 0, 0])]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[1] == 0 and np.abs(found).max() > 0.01
    with pytest.raises(InputError, match=r"row 0: id . is not one of field"):
        make_fitness(config, params, stats, None, ids - fields.offsets, labels, fields=fields)


def test_a_fitness_without_numbers_is_refused():
    with pytest.raises(InputError, match="not finite"):
        field_importance(lambda dims: np.full(len(dims), np.nan), np.array([1, 2]))
