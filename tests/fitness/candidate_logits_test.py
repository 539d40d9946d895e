import jax
import jax.numpy as jnp
import numpy as np
import pytest
from param_shapes import shapes_of_params

from optembed_jax import metrics
from optembed_jax.fields import Fields
from optembed_jax.fitness.candidate_logits import arrange, candidate_logits, shared_affines
from optembed_jax.models import MODEL_NAMES
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection

pytestmark = pytest.mark.usefixtures("strict_dtypes")

FIELDS = Fields(("user", "item", "hour", "site"), (5, 4, 3, 6))
STEPS = 16
ROWS = np.arange(18) % 3 != 1
scored = jax.jit(candidate_logits, static_argnames="model")
plain = jax.jit(
    lambda params, stats, ids, dims, model: forward(
        model, params, stats, ids, Selection(jnp.asarray(ROWS), dims)
    )[0],
    static_argnames="model",
)


measured = jax.jit(metrics.auc_on_device)


def labels_of(ids):
    """0/1 ``[B]``, the same of rows that read the same.

    Rows that differ only in pruned ids have one logit but for its last bit, by which forms may
    differ: across classes, that bit would be half a pair of the AUC.
    """
    return np.where(ROWS[ids], ids, -1) @ np.array([1, 3, 7, 2]) // 3 % 2


def populations(dim):
    """Generations of all kinds: drawn, all equal, all different, a single one."""
    rng = np.random.default_rng(1)
    ladder = np.stack([np.roll([1, 2, dim - 1, dim], n) for n in range(4)]).clip(1, dim)
    return [
        rng.integers(1, dim + 1, (STEPS, 4)),
        np.full((3, 4), dim),
        ladder,
        np.ones((1, 4), int),
    ]


@pytest.mark.parametrize(
    ("name", "dim", "oov", "widths"),
    [
        *((name, 4, "oov", (5, 3)) for name in MODEL_NAMES),
        # These read zeros by one of the two.
        *((name, 1, "oov", (5,)) for name in MODEL_NAMES if name not in ("fm", "finalmlp")),
        *((name, 1, "zero", (5,)) for name in ("fm", "finalmlp")),
        *((name, 4, "zero", ()) for name in MODEL_NAMES if name not in ("fm", "finalmlp")),
    ],
)
def test_every_form_equals_one_forward_pass_per_candidate(
    randomise, draw_ids, name, dim, oov, widths
):
    model = ModelConfig(name, dim, widths, cross_layers=2, mode_oov=oov)
    params, stats = randomise(shapes_of_params(model, FIELDS), seed=4)
    ids = draw_ids(FIELDS, 17)
    positive = labels_of(ids) != 0
    ids = jnp.asarray(ids)
    for dims in populations(dim):
        dims = dims.astype(np.int32)
        candidates = arrange(model, dims, STEPS)
        affines = shared_affines(params, stats, STEPS)
        found = scored(params, jnp.asarray(ROWS), ids, candidates, affines, model=model)
        order = candidates.steps.order[: len(dims)]
        assert sorted(order) == list(range(len(dims)))
        for step, place in enumerate(order):
            expected = plain(params, stats, ids, jnp.asarray(dims[place]), model=model)
            np.testing.assert_allclose(found[step], expected, rtol=1e-6, atol=1e-5)
            np.testing.assert_allclose(
                measured(found[step][positive], found[step][~positive]),
                metrics.auc(positive, np.asarray(expected)),
                atol=1e-6,
            )
