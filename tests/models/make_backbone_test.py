import jax
import jax.numpy as jnp
import pytest

from optembed_jax import models
from optembed_jax.errors import InputError
from optembed_jax.exchange.batch_axis import BatchAxis
from optembed_jax.models import make_backbone

pytestmark = pytest.mark.usefixtures("strict_dtypes")

CLASSES = {
    "fm": models.FM,
    "fnn": models.FNN,
    "deepfm": models.DeepFM,
    "ipnn": models.IPNN,
    "dcn": models.DCN,
    "dcnv2": models.DCNV2,
    "autoint": models.AutoInt,
    "dlrm": models.DLRM,
    "finalmlp": models.FinalMLP,
}


def test_every_name_has_its_class():
    assert set(models.MODEL_NAMES) == set(CLASSES)
    for name, expected in CLASSES.items():
        assert type(make_backbone(name, mlp_dims=(4,))) is expected


@pytest.mark.parametrize("name", [name for name in models.MODEL_NAMES if name != "fm"])
def test_options_reach_the_backbone(name):
    axis = BatchAxis("devices", 8, 4)
    module = make_backbone(name, mlp_dims=[8, 4], dropout=0.2, batch_axis=axis)
    assert module.mlp_dims == (8, 4)
    assert module.dropout == 0.2
    assert module.batch_axis == axis


@pytest.mark.parametrize(("name", "default"), [("dcn", 6), ("dcnv2", 3), ("autoint", 3)])
def test_cross_layers(name, default):
    assert make_backbone(name, mlp_dims=(4,)).cross_layers == default
    assert make_backbone(name, mlp_dims=(4,), cross_layers=2).cross_layers == 2


def test_cross_layers_mean_nothing_to_the_others():
    assert make_backbone("fnn", mlp_dims=(4,), cross_layers=2) == make_backbone(
        "fnn", mlp_dims=(4,)
    )


def test_attention_is_of_autoint_alone():
    module = make_backbone("autoint", mlp_dims=(4,), attention_heads=3, attention_units=5)
    assert (module.heads, module.units) == (3, 5)
    assert make_backbone("dlrm", mlp_dims=(4,), attention_heads=3) == make_backbone(
        "dlrm", mlp_dims=(4,)
    )


def test_the_linear_term_moves_the_logits_of_those_that_have_one():
    embedded = jnp.ones((2, 3, 4))
    for name in models.MODEL_NAMES:
        module = make_backbone(name, mlp_dims=(4,))
        if name in models.MODELS_WITH_LINEAR_TERM:
            variables = module.init(jax.random.key(0), embedded, jnp.zeros(2), train=False)
            base, moved = (
                module.apply(variables, embedded, linear, train=False)
                for linear in (jnp.zeros(2), jnp.array([1.0, -2.0]))
            )
            assert (moved - base).tolist() == pytest.approx([1.0, -2.0], abs=1e-5)
        else:
            module.init(jax.random.key(0), embedded, None, train=False)


@pytest.mark.parametrize("mlp_dims", [(4,), ()])
@pytest.mark.parametrize("name", models.MODEL_NAMES)
def test_a_column_of_zeros_has_no_gradient_where_products_alone_are_read(name, mlp_dims):
    """Until one field has something there, which changes no logit of such a backbone."""
    if name == "finalmlp" and not mlp_dims:
        return  # It needs a layer.
    module = make_backbone(name, mlp_dims=mlp_dims)
    linear = jnp.zeros(6) if name in models.MODELS_WITH_LINEAR_TERM else None
    embedded = jax.random.normal(jax.random.key(1), (6, 3, 4)).at[:, :, 3].set(0.0)
    variables = module.init(jax.random.key(0), embedded, linear, train=False)

    def logits(embedded):
        return module.apply(variables, embedded, linear, train=False)

    def moved(embedded):
        gradient = jax.grad(lambda rows: logits(rows).sum())(embedded)
        return (gradient[:, :, 3] != 0).any(axis=0).tolist()

    of_products = name in models.MODELS_OF_PRODUCTS
    assert moved(embedded) == [not of_products] * 3
    if of_products:
        begun = embedded.at[:, 1, 3].set(jnp.arange(1.0, 7.0))
        assert logits(begun).tolist() == pytest.approx(logits(embedded).tolist(), abs=1e-5)
        assert moved(begun) == [True, False, True]


def test_an_unknown_name_is_an_error_that_lists_the_known():
    with pytest.raises(InputError, match="no model 'ffm'; there are fm, fnn, deepfm, ipnn"):
        make_backbone("ffm", mlp_dims=(4,))
