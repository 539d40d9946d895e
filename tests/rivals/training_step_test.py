"""What rivals train, step by step, against their authors' own formulas in NumPy.

Each formula is a loss in float64 with its gradient by central differences, and steps are those of
Adam written out. Adam's first step is hardly more than a sign. So first moments are compared, which
are a tenth of the gradient, and two steps are taken of a loss with a decay in it, beside which the
size of all else shows.
"""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
from flax import traverse_util
from param_shapes import shapes_of_params

from optembed_jax.fields import Fields
from optembed_jax.method.threshold import row_norm
from optembed_jax.models.between import with_layer
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection
from optembed_jax.rivals import auto_dim
from optembed_jax.rivals.registry import RIVALS
from optembed_jax.rivals.rival import Task, check
from optembed_jax.serving.kept_table import Cut
from optembed_jax.step.optimiser_memory import remembered
from optembed_jax.step.optimisers import TrainConfig
from optembed_jax.step.train_state import bring_up_to_date, init_state
from optembed_jax.step.train_step import Phase, train_step
from optembed_jax.table import stack_cut
from optembed_jax.table.memory import rows_of_table

FIELDS = Fields(("user", "item", "hour"), (12, 6, 2))
F, D, V = 3, 6, 20
LR, L2 = 0.05, 0.02
TRAIN = TrainConfig(lr=LR, l2=L2)
SEED = 3
"""Of the hash."""
LIMIT = 92
"""Numbers to keep: 15 rows of 6 columns and something over; all would be 120."""
TIMES_READ = np.array([5, 27, 2, 9, 1, 11, 3, 8, 4, 7, 10, 6, 16, 13, 18, 15, 17, 14, 40, 53])
"""Of each value in 93 training rows; no two alike."""
IDS = np.stack(
    [
        [0, 1, 1, 3, 3, 3, 5, 6, 7, 8, 11, 11, 10, 2, 2, 6],
        [12, 13, 13, 14, 15, 17, 17, 14, 12, 15, 17, 13, 14, 12, 17, 15],
        [18, 19, 18, 19, 19, 18, 18, 19, 18, 18, 19, 19, 18, 19, 18, 19],
    ],
    axis=1,
).astype(np.int32)
"""A batch; some values are read several times, and users 4 and 9 and item 4 never."""
LABELS = (np.arange(16) % 3 == 0).astype(np.float32)


def squares(*arrays):
    return sum((array**2).sum() for array in arrays)


def mean_loss(logits):
    """Binary cross-entropy."""
    return np.mean(np.logaddexp(0, logits) - LABELS * logits)


def fm(rows, weights, bias):
    """Logits [B] of rows [B, F, D] and linear weights [B, F]: Rendle, ICDM 2010, equation 1."""
    pairs = sum(
        (rows[:, f] * rows[:, g]).sum(axis=-1) for f, g in itertools.combinations((0, 1, 2), 2)
    )
    return bias + weights.sum(axis=1) + pairs


def normalised(values):
    """By mean and variance of the batch: Ioffe and Szegedy, ICML 2015, algorithm 1."""
    return (values - values.mean(axis=0)) / np.sqrt(values.var(axis=0) + 1e-5)


def fnn(rows, at):
    """Logits [B] of a perceptron of one layer on rows [B, F, D]; its biases the mean takes out."""
    units = normalised(rows.reshape(len(rows), -1) @ at["mlp/Dense_0/kernel"])
    units = units * at["mlp/BatchNorm_0/scale"] + at["mlp/BatchNorm_0/bias"]
    return (np.maximum(units, 0) @ at["logit/Dense_0/kernel"])[:, 0] + at["logit/Dense_0/bias"][0]


def slopes(loss, at):
    """The gradient of a loss of named float64 arrays, by central differences."""
    found, small = {name: np.zeros_like(values) for name, values in at.items()}, 1e-6
    for name, values in at.items():
        for place in np.ndindex(values.shape):
            own, sides = values[place], []
            for moved in (own + small, own - small):
                values[place] = moved
                sides.append(loss(at))
            values[place] = own
            found[name][place] = (sides[0] - sides[1]) / (2 * small)
    return found


@dataclasses.dataclass(frozen=True)
class Step:
    """A step: values and moments after it by name; the loss that it was of, without the decay."""

    values: dict
    first: dict
    second: dict
    loss: float


def in_float64(arrays):
    """Copies, which may be changed."""
    return {name: np.array(values, np.float64) for name, values in arrays.items()}


def formulas_steps(loss, decay, begun):
    """Two of Adam (Kingma and Ba, ICLR 2015, algorithm 1) on ``loss(at, n) + L2 / 2 * decay``."""
    at = in_float64(begun)
    first, second = ({name: 0 * values for name, values in at.items()} for _ in range(2))
    for n in range(2):
        own = loss(at, n)
        gradient = slopes(lambda at, n=n: loss(at, n) + L2 / 2 * decay(at), at)
        for name, g in gradient.items():
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            mean, square = first[name] / (1 - 0.9 ** (n + 1)), second[name] / (1 - 0.999 ** (n + 1))
            at[name] -= LR * mean / (np.sqrt(square) + 1e-8)
        yield Step(*jax.tree.map(np.array, (at, first, second)), own)


def named(table, network):
    """Arrays by name, on the host."""
    parts = {"rows": table.rows, "linear": table.linear}
    found = {**parts, **traverse_util.flatten_dict(network, sep="/")}
    return {name: np.asarray(array) for name, array in found.items() if array is not None}


def taken_steps(model, phase, cut, batch_stats, full, train=TRAIN):
    """Two of the library's, all laid out as ``full`` parameters, or those to be saved, are."""
    step = jax.jit(functools.partial(train_step, phase=phase, model=model, train=train))
    state = init_state(jax.random.key(5), model, train, FIELDS, start=(cut.params, batch_stats))
    nothing = jax.tree.map(np.zeros_like, full.network)
    for n in range(2):
        state, loss = step(state, IDS, LABELS, cut.reading)
        done = bring_up_to_date(state, train=train)
        known = remembered(done.opt_state, n + 1, cut.places, full.table)
        saved = cut.saved(done.params)
        first, second = (
            named(getattr(known.rows, name), cut.widened(known.network[name], full=nothing))
            for name in ("mu", "nu")
        )
        yield Step(named(saved.table, saved.network), first, second, float(loss))


def assert_equal(taken, expected):
    """Steps are the same: what they were of, what is remembered of them, what they came to."""
    for own, wanted in zip(taken, expected, strict=True):
        np.testing.assert_allclose(own.loss, wanted.loss, rtol=1e-5)
        for part, share, least in (
            ("first", 1e-4, 1e-6),
            ("second", 1e-4, 1e-8),
            ("values", 1e-6, 2e-5),
        ):
            found = getattr(own, part)
            assert found.keys() == getattr(wanted, part).keys()
            for name, array in getattr(wanted, part).items():
                np.testing.assert_allclose(
                    found[name], array, rtol=share, atol=least, err_msg=f"{part} {name}"
                )


def saved_with(step, whose):
    """A step's outcome with the row, and the weight, of value ``whose[j]`` for each value ``j``."""
    parts = ("rows", "linear")
    moved = {part: step.values[part][whose] for part in parts if part in step.values}
    return dataclasses.replace(step, values={**step.values, **moved})


def whole(params):
    """A full table that is trained as it is."""

    def same(params, settle=None):
        return params

    return Cut(params, Selection(), rows_of_table(FIELDS, D), same, same)


def drawn(randomise, model, seed=1):
    return randomise(shapes_of_params(model, FIELDS), seed)


def task(limit, norms=None, keeps_first=False):
    return Task(FIELDS, TIMES_READ.astype(np.float64), D, limit, keeps_first, norms, SEED)


# A layer between table and backbone.


def test_pep_learns_rows_and_thresholds_by_its_equation(randomise):
    """Equation 4 of the paper before the backbone, and what it leaves by the chain rule."""
    model = with_layer(ModelConfig("fm", D, (), mode="none"), RIVALS["pep"].layer(D))
    params, batch_stats = drawn(randomise, model)
    tenth = np.random.default_rng(3).normal(-0.1, 0.1, (F, D)).astype(np.float32)
    params.network["own"]["layer"]["tenth"] = tenth

    def bounds(at):
        # Thresholds move ten times as far as what is stored of them.
        return 1 / (1 + np.exp(-10 * at["own/layer/tenth"]))

    def loss(at, n):
        rows = at["rows"][IDS]
        left = np.sign(rows) * np.maximum(np.abs(rows) - bounds(at), 0)
        return mean_loss(fm(left, at["linear"][IDS], at["bias"] + at["own/FM_0/bias"]))

    def decay(at):
        return squares(at["rows"], at["linear"], at["own/layer/tenth"])

    begun = named(params.table, params.network)
    expected = list(formulas_steps(loss, decay, begun))
    for at in (begun, expected[0].values):  # Some are left and some are not, none is in between.
        above = np.abs(at["rows"]) - bounds(at)[FIELDS.field_of_row]
        assert 0.2 < np.mean(above > 0) < 0.8 and np.abs(above).min() > 1e-4
    taken = taken_steps(model, Phase.SUPERNET, whole(params), batch_stats, params)
    assert_equal(taken, expected)
    of_thresholds = expected[0].first["own/layer/tenth"] - 0.1 * L2 * tenth
    assert np.mean(np.abs(of_thresholds) > 1e-5) > 0.8 and np.abs(of_thresholds).max() > 1e-3


def test_autodim_learns_rows_weights_and_matrices_by_its_equations(randomise, monkeypatch):
    """Section 2 of the paper before the backbone, of the noise that each step drew."""
    layer = RIVALS["autodim"].layer(D)
    model = with_layer(ModelConfig("fm", D, (), mode="none"), layer)
    params, batch_stats = drawn(randomise, model)
    begun_at = 8000  # Where it is no longer as hot as in the beginning.
    batch_stats["own"]["layer"]["steps"] = np.float32(begun_at)
    noises, draw = [], jax.random.gumbel

    def told(key, shape):
        noise = draw(key, shape)
        jax.debug.callback(lambda values: noises.append(np.array(values, np.float64)), noise)
        return noise

    monkeypatch.setattr(auto_dim.jax.random, "gumbel", told)
    taken = list(taken_steps(model, Phase.SUPERNET, whole(params), batch_stats, params))
    jax.effects_barrier()
    assert len(noises) == 2 and np.abs(noises[0] - noises[1]).min() > 0
    matrices = {dim: f"own/layer/candidate_{dim}" for dim in (1, 2, 3, 4, 6)}

    def loss(at, n):
        rows, alpha, tau = at["rows"][IDS], at["own/layer/alpha"], 1 - 0.00005 * (begun_at + n)
        share = np.exp(alpha) / np.exp(alpha).sum(axis=1, keepdims=True)
        heated = np.exp((np.log(share) + noises[n]) / tau)
        share = heated / heated.sum(axis=1, keepdims=True)
        read = sum(
            share[:, number, None] * np.tanh(normalised(rows[..., :dim] @ at[name]))
            for number, (dim, name) in enumerate(matrices.items())
        )
        bias = at["bias"] + at["own/FM_0/bias"]
        return mean_loss(fm(at["own/layer/factor"] * read, at["linear"][IDS], bias))

    def decay(at):
        kernels = (at[name] for name in ("own/layer/alpha", *matrices.values()))
        return squares(at["rows"], at["linear"], *kernels)

    begun = named(params.table, params.network)
    expected = list(formulas_steps(loss, decay, begun))
    assert_equal(taken, expected)
    of_loss = expected[0].first["own/layer/alpha"] - 0.1 * L2 * begun["own/layer/alpha"]
    assert np.abs(of_loss).max() > 1e-4


# Rows and dimensions, chosen and trained again.


def most(scores, limit, keeps_first):
    """The rows of the highest scores, with all columns."""
    scores = scores.astype(np.float64)
    if keeps_first:
        scores[FIELDS.offsets] = np.inf
    mask = np.zeros(V, bool)
    mask[np.argsort(-scores)[: limit // D]] = True
    return mask, np.full(F, D)


def by_popularity(limit):
    """Ginart et al., algorithm 2, at the largest factor that fits: of 71 numbers 3, 4, 5."""
    sizes = np.array(FIELDS.sizes)
    factors = np.arange(40, 0, -0.01)
    options = np.clip(np.floor(np.outer(factors, (1 / sizes) ** 0.3) + 0.5), 1, D).astype(int)
    return np.ones(V, bool), options[np.argmax(options @ sizes <= limit)]


CHOICES = {
    "frequency": lambda rows, limit, first: most(TIMES_READ, limit, first),
    "magnitude": lambda rows, limit, first: most(np.abs(rows).sum(axis=1), limit, first),
    "mde": lambda rows, limit, first: by_popularity(limit),
    "uniform": lambda rows, limit, first: (np.ones(V, bool), np.full(F, limit // V)),
}
"""Rows bool [V] and dimensions [F] of each rival, of trained rows, a limit and whether the first
row of each field has to stay."""


@pytest.mark.parametrize(
    ("name", "backbone", "limit", "oov", "linear"),
    [
        ("frequency", "fm", LIMIT, "zero", "keep"),
        ("frequency", "fm", LIMIT, "shared", "prune"),
        ("frequency", "fnn", LIMIT, "zero", "keep"),
        ("frequency", "fnn", D, "zero", "keep"),  # A row; two fields have nothing left.
        ("magnitude", "fm", LIMIT, "zero", "prune"),
        ("magnitude", "fnn", LIMIT, "zero", "keep"),
        ("mde", "fm", 71, "zero", "keep"),
        ("mde", "fnn", 71, "zero", "keep"),
        ("uniform", "fm", LIMIT, "zero", "keep"),
        ("uniform", "fnn", LIMIT, "zero", "keep"),
    ],
)
def test_what_is_chosen_is_read_and_trained_by_masks(
    randomise, monkeypatch, name, backbone, limit, oov, linear
):
    monkeypatch.setattr(stack_cut, "MOST_WIDTHS", 2)  # So that of three dimensions one is padded.
    model = ModelConfig(
        backbone,
        D,
        (5,) if backbone == "fnn" else (),
        mode=RIVALS[name].mode,
        mode_threshold="budget",
        mode_oov=oov,
        mode_linear=linear,
    )
    full, batch_stats = drawn(randomise, model)
    trained = np.asarray(drawn(randomise, model, seed=2)[0].table.rows)
    norms = np.asarray(row_norm(trained, 1), np.float64)
    own = task(limit, lambda: norms, keeps_first=oov == "shared")
    choice = check(own, RIVALS[name].choose(own))
    mask, dims = CHOICES[name](trained, limit, oov == "shared")
    np.testing.assert_array_equal(choice.rows, mask)
    np.testing.assert_array_equal(choice.dims, dims)
    prefix = np.arange(D) < dims[:, None]
    kept = mask[:, None] & prefix[FIELDS.field_of_row]
    assert 0 < kept.sum() <= limit
    whose = np.arange(V)
    if oov == "shared":  # A pruned value reads its field's first row.
        whose = np.where(mask, whose, FIELDS.offsets[FIELDS.field_of_row])
    weighed = np.ones(V, bool) if linear == "keep" else mask
    # What met nothing but zeros is gone from a kernel, too.
    met = (prefix & (FIELDS.rows_per_field(mask) > 0)[:, None]).reshape(-1, 1)

    def logits(at):
        rows = (at["rows"] * kept)[whose][IDS]
        if backbone == "fnn":
            return fnn(rows, at)
        weights = at["linear"] if linear == "keep" else (at["linear"] * weighed)[whose]
        return fm(rows, weights[IDS], at["bias"])

    def decay(at):
        if backbone == "fnn":
            kernels = (at["mlp/Dense_0/kernel"] * met, at["logit/Dense_0/kernel"])
            return squares(at["rows"] * kept, *kernels)
        return squares(at["rows"] * kept, at["linear"] * weighed)

    cut, begun = choice.cut(model, full, FIELDS), named(full.table, full.network)
    read, _ = forward(model, cut.params, batch_stats, IDS, cut.reading, train=True)
    np.testing.assert_allclose(read, logits(begun), rtol=1e-4, atol=1e-5)
    taken = list(taken_steps(model, Phase.RETRAIN, cut, batch_stats, full))
    expected = formulas_steps(lambda at, n: mean_loss(logits(at)), decay, begun)
    # Of the full table nothing moves but what is kept; what reads another's row is saved as that.
    assert_equal(taken, (saved_with(step, whose) for step in expected))
    # And nothing else is held.
    held = [place.ids[place.ids >= 0] for place in cut.places if place.dims]
    assert sorted(np.concatenate(held).tolist()) == np.flatnonzero(mask).tolist()
    numbers = [
        np.count_nonzero(stack.rows) for stack in cut.params.table.stacks if stack.rows.ndim == 2
    ]
    assert sum(numbers) == kept.sum() == choice.numbers(FIELDS)


# Rows that values share.


def finalised(number):
    """SplitMix64's finaliser (Steele et al., 2014) of a number, in Python's own integers."""
    whole = 2**64 - 1
    number = (number + 0x9E3779B97F4A7C15) & whole
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & whole
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & whole
    return number ^ (number >> 31)


HASHES = [finalised((SEED << 32) + number) for number in range(V)]
BUCKET = np.array([(number >> 32) * 15 >> 32 for number in HASHES])
SIGN = np.array([1 - 2 * (number & 1) for number in HASHES])


def hashed(stored):
    """Weinberger et al., equation 1: ``xi(j) * w[h(j)]`` of each value ``j``."""
    return (SIGN * stored[BUCKET].T).T


def of_hashed(gradient, stored):
    """A stored row's gradient: the sum over all values in its bucket, with their signs."""
    found = np.zeros_like(stored)
    for own, bucket, sign in zip(gradient, BUCKET, SIGN, strict=True):
        found[bucket] += sign * own
    return found


FACTORS = [(i // 5, 3 + i % 5) for i in range(12)]
FACTORS += [(8 + i // 3, 10 + i % 3) for i in range(6)]
FACTORS += [(13, None), (14, None)]
"""Of each value the stored rows of its quotient and its remainder: a field of 12 values has 3 + 5,
one of 6 has 2 + 3, and one of two a row for each; 15 in all, as the limit has it."""


def multiplied(stored):
    """Shi et al., section 2: ``Q[i // m] * R[i % m]``."""
    return np.stack([stored[q] * (1 if r is None else stored[r]) for q, r in FACTORS])


def of_multiplied(gradient, stored):
    """By the product rule: each factor's gradient has the other in it, summed over its values."""
    found = np.zeros_like(stored)
    for own, (q, r) in zip(gradient, FACTORS, strict=True):
        found[q] += own if r is None else own * stored[r]
        if r is not None:
            found[r] += own * stored[q]
    return found


SHARED = {
    "hash": ([(bucket,) for bucket in BUCKET], hashed, of_hashed),
    "qr": (FACTORS, multiplied, of_multiplied),
}
"""Stored rows that each value reads, what it makes of them, and their gradient of the values'."""


@pytest.mark.parametrize("update", ["dense", "sparse"])
@pytest.mark.parametrize("name", SHARED)
def test_a_shared_row_has_the_gradient_of_all_its_values(randomise, name, update):
    decays = {"dense": "l2_coupled", "sparse": "l2_visited"}
    train = dataclasses.replace(TRAIN, table_update=update, row_decay=decays[update])
    model = ModelConfig("fm", D, (), mode=RIVALS[name].mode)
    full, batch_stats = drawn(randomise, model)
    own, (places, values_of, gradient_of) = task(LIMIT), SHARED[name]
    cut = check(own, RIVALS[name].choose(own)).cut(model, full, FIELDS)
    # As they begin, linear weights of factors are all 1.
    cut = dataclasses.replace(cut, params=randomise(cut.params, seed=4))
    stored = cut.saved(cut.params)
    begun = named(stored.table, stored.network)
    read = [place for value in set(IDS.flat) for place in places[value] if place is not None]
    values_in_batch = np.bincount(read, minlength=15)
    assert values_in_batch.min() == 0 and values_in_batch.max() > 1
    pays = np.ones(15, bool) if update == "dense" else values_in_batch > 0

    def of_values(at):
        return mean_loss(fm(at["rows"][IDS], at["linear"][IDS], at["bias"]))

    def composed(at):
        return {**at, "rows": values_of(at["rows"]), "linear": values_of(at["linear"])}

    def decay(at):
        return squares(at["rows"][pays], at["linear"][pays])

    taken = list(taken_steps(model, Phase.RETRAIN, cut, batch_stats, stored, train))
    expected = formulas_steps(lambda at, n: of_values(composed(at)), decay, begun)
    assert_equal(taken, expected)
    # The first gradient again, summed by hand.
    of_each = slopes(of_values, composed(in_float64(begun)))
    for part in ("rows", "linear"):
        summed = gradient_of(of_each[part], begun[part].astype(np.float64))
        paid = L2 * (begun[part].T * pays).T
        np.testing.assert_allclose(10 * taken[0].first[part], summed + paid, rtol=1e-3, atol=1e-6)
        assert np.abs(summed).max() > 1e-2
