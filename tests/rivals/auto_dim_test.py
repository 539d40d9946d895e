"""AutoDim's mixture against the paper's formulas in NumPy, its gradient, and what fits a budget."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.rivals import auto_dim
from optembed_jax.rivals.auto_dim import Mixture, candidates_of, dims_at_price

CANDIDATES, FIELDS, WIDTH = (1, 2, 4), 3, 4
RNG = np.random.default_rng(0)
NOISE = RNG.gumbel(size=(FIELDS, 3))
EMBEDDED = RNG.normal(size=(16, FIELDS, WIDTH)).astype(np.float32)
WEIGHTS = RNG.random(16).astype(np.float32) + 0.5


@pytest.fixture
def variables(monkeypatch):
    layer = Mixture(CANDIDATES)
    made = layer.init(jax.random.key(0), EMBEDDED, train=False)
    alpha = jnp.asarray(RNG.normal(size=(FIELDS, 3)), jnp.float32)
    monkeypatch.setattr(auto_dim.jax.random, "gumbel", lambda key, shape: jnp.asarray(NOISE))
    assert made["params"]["factor"] == np.float32(0.1)
    params = {**made["params"], "alpha": alpha, "factor": jnp.float32(0.7)}
    return {**made, "params": params}


def paper(params, alpha, weights, step):
    """Section 2 in NumPy: candidates, matrices, normalisation, tanh, Gumbel-softmax; a factor."""
    softmax = np.exp(alpha) / np.exp(alpha).sum(axis=1, keepdims=True)
    tau = max(0.01, 1 - 0.00005 * step)
    heated = np.exp((np.log(softmax) + NOISE) / tau)
    shares = heated / heated.sum(axis=1, keepdims=True)
    share = weights / weights.sum()
    read = np.zeros_like(EMBEDDED, np.float64)
    for number, dim in enumerate(CANDIDATES):
        whole = EMBEDDED[..., :dim].astype(np.float64) @ np.asarray(params[f"candidate_{dim}"])
        mean = np.einsum("b,bfd->fd", share, whole)
        var = np.einsum("b,bfd->fd", share, (whole - mean) ** 2)
        read += shares[:, number, None] * np.tanh((whole - mean) / np.sqrt(var + 1e-5))
    return read * float(params["factor"])


@pytest.mark.parametrize("step", [0, 10_000, 10**6])
def test_a_field_reads_what_the_paper_says(variables, step):
    stats = {**variables["batch_stats"], "steps": jnp.float32(step)}
    read, updated = Mixture(CANDIDATES).apply(
        {**variables, "batch_stats": stats},
        EMBEDDED,
        train=True,
        weights=jnp.asarray(WEIGHTS),
        rngs={"dropout": jax.random.key(1)},
        mutable=["batch_stats"],
    )
    params = variables["params"]
    expected = paper(params, np.asarray(params["alpha"], np.float64), WEIGHTS, step)
    np.testing.assert_allclose(read, expected, rtol=1e-3, atol=1e-4)
    assert updated["batch_stats"]["steps"] == step + 1


def test_alphas_gradient_is_that_of_the_formula(variables):
    params, target = variables["params"], RNG.normal(size=EMBEDDED.shape)

    def loss(alpha):
        read, _ = Mixture(CANDIDATES).apply(
            {**variables, "params": {**params, "alpha": alpha}},
            EMBEDDED,
            train=True,
            rngs={"dropout": jax.random.key(1)},
            mutable=["batch_stats"],
        )
        return jnp.sum(read * target)

    found, alpha = jax.grad(loss)(params["alpha"]), np.asarray(params["alpha"], np.float64)
    for place in itertools.product(range(FIELDS), range(3)):
        moved = [alpha.copy(), alpha.copy()]
        for own, way in zip(moved, (1e-4, -1e-4), strict=True):
            own[place] += way
        up, down = ((paper(params, own, np.ones(16), 0) * target).sum() for own in moved)
        np.testing.assert_allclose(found[place], (up - down) / 2e-4, rtol=2e-2, atol=2e-3)


def test_without_training_there_is_no_noise(variables):
    read = Mixture(CANDIDATES).apply(variables, EMBEDDED, train=False)
    params, share = variables["params"], jax.nn.softmax(variables["params"]["alpha"])
    expected = params["factor"] * sum(
        share[:, number, None] * np.tanh(EMBEDDED[..., :dim] @ params[f"candidate_{dim}"])
        for number, dim in enumerate(CANDIDATES)
    )
    np.testing.assert_allclose(read, expected, rtol=1e-4, atol=1e-5)


def test_candidates_are_the_papers_shares_of_the_columns():
    assert candidates_of(32) == (2, 8, 16, 24, 32)
    assert candidates_of(16) == (1, 4, 8, 12, 16)
    assert candidates_of(1) == (1,)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_chosen_fits_and_is_worth_most_at_its_price(seed):
    rng = np.random.default_rng(seed)
    rows, log_share = rng.integers(1, 100, 4), np.log(rng.dirichlet(np.ones(3), 4))
    dims, every = np.array(CANDIDATES), np.arange(4)
    options = np.array(list(itertools.product(range(3), repeat=4)))
    costs, worths = (rows * dims[options]).sum(axis=1), log_share[every, options].sum(axis=1)
    for limit in np.linspace(rows.sum(), 4 * rows.sum(), 12).astype(int):
        found = dims_at_price(log_share, CANDIDATES, rows, int(limit))
        cost = (rows * found).sum()
        own = log_share[every, np.searchsorted(dims, found)].sum()
        assert cost <= limit and own <= worths[costs <= limit].max() + 1e-12
        # Nothing of the same size or smaller is likelier by more than one field's last step.
        steps = np.abs(np.diff(log_share, axis=1)).max()
        assert own >= worths[costs <= limit].max() - 2 * steps
        # What a field could still be raised to does not fit.
        for field, dim in itertools.product(range(4), CANDIDATES):
            is_likelier = (
                log_share[field, CANDIDATES.index(dim)]
                > (log_share[field, np.searchsorted(dims, found[field])])
            )
            if dim > found[field] and is_likelier:
                assert cost + rows[field] * (dim - found[field]) > limit
    best = dims_at_price(log_share, CANDIDATES, rows, 10**6)
    assert best.tolist() == dims[np.argmax(log_share, axis=1)].tolist()


def test_a_budget_below_the_smallest_candidates_is_refused():
    with pytest.raises(InputError, match=r"budget of 199 .* dimensions 2, 8, 200 .*raise it"):
        dims_at_price(np.zeros((2, 2)), (2, 8), np.array([60, 40]), 199)


def test_evaluation_goes_by_running_means_of_the_batches_seen(variables):
    batches = [EMBEDDED, 2 * EMBEDDED + 1]
    stats, params = variables["batch_stats"], variables["params"]
    for batch in batches:
        _, updated = Mixture(CANDIDATES).apply(
            {"params": params, "batch_stats": stats}, batch, train=True, mutable=["batch_stats"]
        )
        stats = updated["batch_stats"]
    read = Mixture(CANDIDATES).apply(
        {"params": params, "batch_stats": stats}, EMBEDDED, train=False
    )
    alpha = np.asarray(params["alpha"], np.float64)
    shares = np.exp(alpha) / np.exp(alpha).sum(axis=1, keepdims=True)
    expected = np.zeros_like(EMBEDDED, np.float64)
    for number, dim in enumerate(CANDIDATES):
        kernel = np.asarray(params[f"candidate_{dim}"], np.float64)
        mean, var = np.zeros((FIELDS, WIDTH)), np.ones((FIELDS, WIDTH))
        for batch in batches:  # A tenth of each new batch, as the backbones' normalisation.
            whole = batch[..., :dim].astype(np.float64) @ kernel
            mean, var = 0.9 * mean + 0.1 * whole.mean(axis=0), 0.9 * var + 0.1 * whole.var(axis=0)
        own = EMBEDDED[..., :dim].astype(np.float64) @ kernel
        expected += shares[:, number, None] * np.tanh((own - mean) / np.sqrt(var + 1e-5))
    np.testing.assert_allclose(read, expected * float(params["factor"]), rtol=2e-5, atol=1e-6)
    assert float(stats["steps"]) == 0  # Without draws there is nothing to cool.
