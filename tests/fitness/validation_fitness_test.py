import jax
import jax.numpy as jnp
import numpy as np
import pytest
from param_shapes import shapes_of_params

from optembed_jax import metrics
from optembed_jax.errors import DivergedError, InputError
from optembed_jax.fields import Fields
from optembed_jax.fitness import split_scorer
from optembed_jax.fitness.candidate_devices import rows_read
from optembed_jax.fitness.validation_fitness import (
    ValidationFitness,
    default_batch_size,
    make_fitness,
)
from optembed_jax.fitness.validation_parts import part_sizes, stratified_order
from optembed_jax.method.bag import bags_of
from optembed_jax.models import MODEL_NAMES
from optembed_jax.models.forward import forward
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.selection import Selection

pytestmark = pytest.mark.usefixtures("strict_dtypes")

D = 4
CANDIDATES = np.array([[4, 4, 4], [1, 1, 1], [2, 4, 1], [4, 1, 3], [4, 4, 4]], np.int32)


@pytest.fixture
def split(fields):
    """37 rows without repetition: a tie between rows would hang on the last bit of a logit."""
    rng = np.random.default_rng(0)
    combinations = np.stack([axis.ravel() for axis in np.indices(fields.sizes)], axis=1)
    ids = (rng.permutation(combinations)[:37] + fields.offsets).astype(np.int32)
    return ids, rng.integers(0, 2, 37).astype(np.float32)


def make(fields, randomise, name, dim=D, **options):
    model = ModelConfig(name, dim, (5, 3), cross_layers=2, **options)
    return model, *randomise(shapes_of_params(model, fields), seed=4)


def one_by_one(model, params, stats, rows, split, candidates):
    """One plain forward pass over the whole split for each candidate, and the host's AUC."""
    ids, labels = split
    mask = None if rows is None else jnp.asarray(rows)
    return [
        metrics.auc(
            labels,
            np.asarray(
                forward(
                    model, params, stats, jnp.asarray(ids), Selection(mask, jnp.asarray(candidate))
                )[0]
            ),
        )
        for candidate in candidates
    ]


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_fitness_is_the_auc_of_each_candidate_alone(fields, randomise, split, name):
    model, params, stats = make(fields, randomise, name)
    # 37 rows leave 11 of padding in the third batch; 9 candidates one in the second pass.
    fitness = make_fitness(model, params, stats, None, *split, batch_size=16, candidates_per_pass=8)
    candidates = np.concatenate([CANDIDATES, CANDIDATES[:4]])
    scores = fitness(candidates)
    assert scores.dtype == np.float64 and scores.shape == (9,)
    expected = one_by_one(model, params, stats, None, split, candidates)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert len(set(scores)) > 2


def test_a_table_of_other_fields_is_refused(fields, randomise, split):
    model, params, stats = make(fields, randomise, "fnn")
    rows = params.table.rows[:-1]
    params = params.replace(table=params.table.replace(rows=rows))
    message = f"the table has {len(rows)} rows, and the fields {fields.num_features} features"
    with pytest.raises(InputError, match=message):
        make_fitness(model, params, stats, None, *split, fields=fields)


@pytest.mark.parametrize(("oov", "linear"), [("zero", "keep"), ("oov", "prune")])
def test_the_row_mask_is_applied(fields, randomise, split, oov, linear):
    model, params, stats = make(fields, randomise, "deepfm", mode_oov=oov, mode_linear=linear)
    rows = np.ones(12, bool)
    rows[[1, 6, 9]] = False
    scores = make_fitness(model, params, stats, rows, *split, batch_size=16)(CANDIDATES)
    expected = one_by_one(model, params, stats, rows, split, CANDIDATES)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    unmasked = make_fitness(model, params, stats, None, *split, batch_size=16)(CANDIDATES)
    assert (scores != unmasked).any()


@pytest.mark.parametrize(("batch_size", "per_pass"), [(5, 5), (4096, 64)])
def test_batches_and_passes_do_not_change_the_score(fields, randomise, split, batch_size, per_pass):
    model, params, stats = make(fields, randomise, "fnn")
    fitness = make_fitness(
        model, params, stats, None, *split, batch_size=batch_size, candidates_per_pass=per_pass
    )
    expected = one_by_one(model, params, stats, None, split, CANDIDATES)
    np.testing.assert_allclose(fitness(CANDIDATES), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["deepfm", "ipnn"])
def test_what_is_kept_between_generations_does_not_change_the_score(
    fields, randomise, split, name, monkeypatch
):
    """In runs of 2 batches, 5 batches of 8 leave one batch in the last run; parts share them."""
    model, params, stats = make(fields, randomise, name)
    expected = one_by_one(model, params, stats, None, split, CANDIDATES)
    monkeypatch.setattr(split_scorer, "_BATCHES_AT_ONCE", 2)
    for kept_bytes in (0, 2**29):
        monkeypatch.setattr(split_scorer, "_KEPT_BYTES", kept_bytes)
        fitness = make_fitness(model, params, stats, None, *split, batch_size=8, least_part=1)
        part = fitness.parts[1](CANDIDATES)
        for _ in range(2):
            np.testing.assert_allclose(fitness(CANDIDATES), expected, atol=1e-6)
        np.testing.assert_array_equal(fitness.parts[1](CANDIDATES), part)


def test_the_default_batch_is_whole_lanes_and_leaves_the_smallest_part_little_padding():
    wide, narrow = ModelConfig("fnn", 8, (1024,)), ModelConfig("fnn", 8, (64,))
    assert default_batch_size(wide, 10_240) == 512
    assert default_batch_size(narrow, 10_240) == 1024
    assert default_batch_size(narrow, 2100) == 768  # 3 batches with 204 rows of padding.
    assert default_batch_size(narrow, 5) == 128


def test_every_row_pruned_knows_nothing(fields, randomise, split):
    model, params, stats = make(fields, randomise, "fnn")
    fitness = make_fitness(model, params, stats, np.zeros(12, bool), *split, batch_size=16)
    np.testing.assert_allclose(fitness(CANDIDATES), np.full(5, 0.5), atol=1e-7)


def test_one_field_of_one_column(randomise):
    fields = Fields(("only",), (20,))
    model, params, stats = make(fields, randomise, "fm", dim=1)
    ids = np.arange(20, dtype=np.int32)[:, None]
    labels = np.random.default_rng(0).integers(0, 2, 20).astype(np.float32)
    scores = make_fitness(model, params, stats, None, ids, labels)(np.array([[1]], np.int32))
    # FM of one field has no pair: what ranks the rows is their linear weight.
    expected = metrics.auc(labels, np.asarray(params.table.linear))
    np.testing.assert_allclose(scores, [expected], atol=1e-6)


def test_no_candidates_no_scores(fields, randomise, split):
    model, params, stats = make(fields, randomise, "fm")
    scores = make_fitness(model, params, stats, None, *split)(np.zeros((0, 3), np.int32))
    assert scores.shape == (0,) and scores.dtype == np.float64


def test_a_supernet_that_gives_no_numbers_is_not_searched(fields, randomise, split):
    model, params, stats = make(fields, randomise, "fnn")
    broken = jax.tree.map(lambda leaf: leaf * jnp.nan, params)
    with pytest.raises(DivergedError, match="5 of 5 candidates have no AUC"):
        make_fitness(model, broken, stats, None, *split)(CANDIDATES)


def test_parts_are_nested_stratified_and_end_with_all_rows(fields, randomise, draw_clicks):
    model, params, stats = make(fields, randomise, "fm")
    ids, labels = draw_clicks(fields, 96)
    fitness = make_fitness(model, params, stats, None, ids, labels, batch_size=8, least_part=12)
    assert fitness.part_rows == (12, 24, 96)
    order = stratified_order(labels)
    for part, size in zip(fitness.parts, fitness.part_rows, strict=True):
        rows = order[:size]
        assert abs(labels[rows].sum() - size * labels.mean()) <= 1
        expected = one_by_one(model, params, stats, None, (ids[rows], labels[rows]), CANDIDATES)
        np.testing.assert_allclose(part(CANDIDATES), expected, atol=1e-6)
    np.testing.assert_array_equal(fitness(CANDIDATES), fitness.parts[-1](CANDIDATES))


@pytest.mark.parametrize(
    ("rows", "seen"),
    [(65_535, None), (65_536, 16_384), (131_071, 32_767), (131_072, 16_384), (10**6, 125_000)],
)
def test_a_partial_evaluation_is_on_the_smallest_part_with_rows_enough(rows, seen):
    sizes = part_sizes(rows, 1000)
    parts = tuple((lambda dims, size=size: np.full(len(dims), size)) for size in sizes)
    found = ValidationFitness(parts, sizes).partial
    assert (found and found(CANDIDATES)[0]) == seen
    assert ValidationFitness(parts[-1:], sizes[-1:]).partial is None


def standardised(x, network, n):
    """A hidden layer in training mode, written out: the rows' own mean and variance."""
    dense, norm = network["mlp"][f"Dense_{n}"], network["mlp"][f"BatchNorm_{n}"]
    units = x @ np.asarray(dense["kernel"], np.float64) + dense["bias"]
    units = (units - units.mean(axis=0)) / np.sqrt(units.var(axis=0) + 1e-5)
    return np.maximum(units * norm["scale"] + norm["bias"], 0)


def test_logloss_is_of_statistics_taken_anew_for_each_candidate(fields, randomise, split):
    model, params, stats = make(fields, randomise, "fnn")
    ids, labels = split
    fitness = make_fitness(
        model, params, stats, None, ids, labels, measure="logloss", batch_size=16
    )
    expected = []
    for dims in CANDIDATES:
        rows = np.asarray(params.table.rows, np.float64)[ids] * (np.arange(D) < dims[:, None])
        x = standardised(rows.reshape(len(ids), -1), params.network, 0)
        x = standardised(x, params.network, 1)
        logit = params.network["logit"]["Dense_0"]
        expected.append(-metrics.logloss(labels, x @ logit["kernel"][:, 0] + logit["bias"][0]))
    np.testing.assert_allclose(fitness(CANDIDATES), expected, atol=1e-6)


def test_logloss_without_batch_statistics_is_that_of_the_plain_forward_pass(
    fields, randomise, split
):
    model, params, stats = make(fields, randomise, "fm")
    ids, labels = split
    scores = make_fitness(model, params, stats, None, ids, labels, measure="logloss")(CANDIDATES)
    expected = [
        -metrics.logloss(
            labels, np.asarray(forward(model, params, stats, ids, Selection(dims=d))[0])
        )
        for d in jnp.asarray(CANDIDATES)
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_an_unknown_measure(fields, randomise, split):
    model, params, stats = make(fields, randomise, "fm")
    with pytest.raises(InputError, match="fitness must be one of auc, logloss, not 'lift'"):
        make_fitness(model, params, stats, None, *split, measure="lift")


@pytest.mark.parametrize("measure", ["auc", "logloss"])
def test_rows_of_weight_two_are_rows_given_twice(fields, randomise, split, measure):
    model, params, stats = make(fields, randomise, "deepfm")
    ids, labels = split
    weights = np.random.default_rng(3).integers(1, 4, len(ids))
    again = np.repeat(np.arange(len(ids)), weights)
    how = {"measure": measure, "batch_size": 16}
    scores = make_fitness(
        model, params, stats, None, ids, labels, weights.astype(np.float32), **how
    )(CANDIDATES)
    expected = make_fitness(model, params, stats, None, ids[again], labels[again], **how)
    np.testing.assert_allclose(scores, expected(CANDIDATES), atol=1e-5)
    plain = make_fitness(model, params, stats, None, ids, labels, **how)(CANDIDATES)
    assert np.abs(scores - plain).max() > 1e-3, "these weights must matter"


@pytest.mark.parametrize("name", ["fm", "deepfm", "ipnn"])
@pytest.mark.parametrize("measure", ["auc", "logloss"])
def test_fields_of_several_values_are_pooled(randomise, draw_bags, name, measure):
    several = Fields(("user", "tags", "hour"), (5, 4, 3), (1, 3, 1))
    model, params, stats = make(several, randomise, name, pooling="sum")
    bags, ids = bags_of(several, "sum"), np.unique(draw_bags(several, 80), axis=0)
    labels = np.random.default_rng(1).integers(0, 2, len(ids)).astype(np.float32)
    rows = np.arange(12) != 6
    read, own_rows, places = rows_read(params, rows, ids[:60])
    ids, labels = ids[:60], labels[:60]
    scores = make_fitness(
        model, read, stats, own_rows, places, labels, measure=measure, bags=bags, batch_size=16
    )(CANDIDATES)
    if measure == "logloss":
        whole = make_fitness(
            model, params, stats, rows, ids, labels, measure=measure, bags=bags, batch_size=64
        )(CANDIDATES)
        np.testing.assert_allclose(scores, whole, rtol=1e-5)
        return
    expected = [
        metrics.auc(
            labels,
            forward(
                model, params, stats, ids, Selection(jnp.asarray(rows), jnp.asarray(own), bags=bags)
            )[0],
        )
        for own in CANDIDATES
    ]
    np.testing.assert_allclose(scores, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("labels", np.ones(36), r"labels have shape \[36\] for 37 rows: \[37\] is wanted"),
        ("labels", np.arange(37.0), "row 2: label 2.0 is neither 0 nor 1"),
        ("labels", np.full(37, np.nan), "row 0: label nan is neither"),
        ("weights", np.ones((37, 1)), r"weights have shape \[37, 1\]"),
        ("weights", np.zeros(37), "row 0: weight 0.0 is not a number above 0"),
        ("rows", np.arange(12), "the row mask is int64 with other values"),
        ("rows", np.ones(11, bool), r"the row mask has shape \[11\]"),
    ],
)
def test_what_is_no_split_or_mask_is_refused(fields, randomise, split, name, value, message):
    made = make(fields, randomise, "fnn")
    given = {"rows": None, "ids": split[0], "labels": split[1], name: value}
    with pytest.raises(InputError, match=message):
        make_fitness(*made, **given, fields=fields)


def test_no_rows_and_a_mask_that_nothing_can_honour_are_refused(fields, randomise, split):
    made = make(fields, randomise, "fnn")
    for given in ({}, {"fields": fields}):
        with pytest.raises(InputError, match="no validation rows"):
            make_fitness(*made, None, split[0][:0], split[1][:0], **given)
    shared = make(fields, randomise, "fnn", mode_oov="shared")
    with pytest.raises(InputError, match="mode_oov=shared with a row mask"):
        make_fitness(*shared, np.ones(12, bool), *split)


@pytest.mark.parametrize(
    "candidates",
    [[[1, 2, D + 1]], [[1, 2, -1]], [[1.0, 2.0, 3.0]], [[1, 2]], [1, 2, 3], [[[1, 2, 3]]], 3],
)
def test_what_is_no_candidate_is_refused(fields, randomise, split, candidates):
    fitness = make_fitness(*make(fields, randomise, "fnn"), None, *split)
    with pytest.raises(InputError, match=r"dims|candidates"):
        fitness(np.array(candidates))


def test_candidates_may_be_a_list_and_nobody(fields, randomise, split):
    fitness = make_fitness(*make(fields, randomise, "fnn"), None, *split)
    expected = fitness(CANDIDATES)
    np.testing.assert_array_equal(fitness(CANDIDATES.tolist()), expected)
    assert fitness(CANDIDATES[:0]).shape == (0,)
