import jax.numpy as jnp
import numpy as np
import pytest
from param_shapes import shapes_of_params

from optembed_jax import metrics
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.fitness.field_importance import field_importance
from optembed_jax.fitness.validation_fitness import make_fitness
from optembed_jax.method.bag import bags_of
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection


@pytest.mark.parametrize("model", ["fm", "deepfm", "ipnn"])
def test_it_is_the_fitness_lost_without_the_field(model, fields, randomise, draw_clicks):
    config = ModelConfig(model=model, latent_dim=4, mlp_dims=())
    params, stats = randomise(shapes_of_params(config, fields), seed=4)
    ids, labels = draw_clicks(fields, 37)
    fitness = make_fitness(
        config, params, stats, None, ids, labels, measure="logloss", fields=fields
    )

    def score(dims, gone=None):
        """By a plain forward pass, the linear weights of one field's rows being zeros."""
        own = params
        if gone is not None and params.table.linear is not None:
            first = fields.offsets[gone]
            linear = np.array(params.table.linear)
            linear[first : first + fields.sizes[gone]] = 0
            own = params.replace(table=params.table.replace(linear=jnp.asarray(linear)))
        selection = Selection(dims=jnp.asarray(dims, jnp.int32))
        logits = forward(config, own, stats, ids, selection)[0]
        return -metrics.logloss(labels, np.asarray(logits))

    found = field_importance(fitness, np.array([3, 0, 2]))
    without = ([0, 0, 2], [3, 0, 2], [3, 0, 0])
    expected = [score([3, 0, 2]) - score(dims, gone) for gone, dims in enumerate(without)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found).max() > 0.01
    assert (found[1] == 0) == (params.table.linear is None)  # Of its columns nothing was there.
    with pytest.raises(InputError, match=r"row 0: id . is not one of field"):
        make_fitness(config, params, stats, None, ids - fields.offsets, labels, fields=fields)


def test_linear_weights_alone_are_worth_something(fields, randomise, draw_clicks):
    config = ModelConfig(model="deepfm", latent_dim=4, mlp_dims=())
    params, stats = randomise(shapes_of_params(config, fields), seed=4)
    ids, _ = draw_clicks(fields, 200)
    labels = np.asarray(params.table.linear)[ids[:, 1]] > 0
    nothing = params.replace(table=params.table.replace(rows=0 * params.table.rows))
    found = field_importance(make_fitness(config, nothing, stats, None, ids, labels), [4, 4, 4])
    assert found.argmax() == 1 and found[1] > 0.05


def test_of_a_cell_with_several_values_all_go(randomise):
    fields = Fields(("a", "b"), (6, 5), slots=(2, 1))
    config = ModelConfig(model="fm", latent_dim=2)
    params, stats = randomise(shapes_of_params(config, fields), seed=1)
    rng = np.random.default_rng(0)
    ids = np.stack([rng.integers(0, 6, 90), rng.integers(0, 6, 90), rng.integers(6, 11, 90)], 1)
    ids = ids.astype(np.int32)
    labels = rng.random(90) < 0.5
    bags = bags_of(fields, "mean")
    given = {"measure": "logloss", "bags": bags}
    found = field_importance(
        make_fitness(config, params, stats, None, ids, labels, **given), np.array([2, 2])
    )
    linear = np.array(params.table.linear)
    linear[:6] = 0
    without = params.replace(table=params.table.replace(linear=jnp.asarray(linear)))
    both = make_fitness(config, params, stats, None, ids, labels, **given)(np.array([[2, 2]]))
    gone = make_fitness(config, without, stats, None, ids, labels, **given)(np.array([[0, 2]]))
    np.testing.assert_allclose(found[0], both[0] - gone[0], atol=1e-6)


def test_a_function_of_ones_own_is_asked_by_dimensions_alone():
    found = field_importance(lambda dims: dims @ np.array([1.0, 10.0]), np.array([3, 2]))
    np.testing.assert_array_equal(found, [3, 20])


def test_a_fitness_without_numbers_is_refused():
    with pytest.raises(InputError, match="not finite"):
        field_importance(lambda dims: np.full(len(dims), np.nan), np.array([1, 2]))


@pytest.mark.parametrize("dims", [[1.7, 2.0], [[1, 2]], 3, [np.nan, 1]])
def test_dims_that_are_none_are_refused(dims):
    with pytest.raises(InputError, match="dims"):
        field_importance(lambda dims: dims @ np.array([1.0, 10.0]), dims)
