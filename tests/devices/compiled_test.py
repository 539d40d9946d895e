import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.devices import compiled as module
from optembed_jax.devices.compiled import are_known, compile_options, compiled

KNOWS = are_known(tuple(module._CPU.items()))


def test_an_option_that_jaxlib_does_not_have_is_left_out(monkeypatch):
    unknown = {"xla_cpu_no_such_option": "1"}
    assert not are_known(tuple(unknown.items()))
    monkeypatch.setattr(module, "_CPU", unknown)
    assert compile_options() is None


def test_other_backends_get_none(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compile_options() is None


@pytest.mark.skipif(not KNOWS, reason="this jaxlib has no such option")
def test_products_go_to_ynnpack_and_sums_do_not():
    def product(x):
        return x @ x.T

    def total(x):
        return jnp.sum(x, 0)

    x = np.random.default_rng(0).normal(size=(256, 512)).astype(np.float32)
    texts = {}
    for function in (product, total):
        program = jax.jit(function, compiler_options=compile_options()).lower(x).compile()
        texts[function] = program.as_text()
        np.testing.assert_allclose(program(x), function(x.astype(np.float64)), rtol=0, atol=1e-3)
    assert "__ynn_fusion" in texts[product] and "__ynn_fusion" not in texts[total]


def test_what_is_compiled_can_be_called_within_a_trace_and_donates():
    step = compiled(lambda x, y: x + y, donate_argnums=0)
    x, y = jnp.arange(3.0), jnp.ones(3)
    np.testing.assert_array_equal(jax.jit(lambda x: 2 * step(x, y))(x), [2, 4, 6])
    assert not x.is_deleted()
    np.testing.assert_array_equal(step(x, y), [1, 2, 3])
    assert x.is_deleted() and not y.is_deleted()
