"""Each rival against its authors' own formula, and what no rival may do."""

import numpy as np
import pytest

from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.rivals.mixed_dimensions import TEMPERATURE
from optembed_jax.rivals.registry import METHODS, RIVALS, rival_of
from optembed_jax.rivals.rival import Relaxed, Task, check
from optembed_jax.serving.element_table import ElementTable
from optembed_jax.serving.kept_table import RowsAndDims

FIELDS = Fields(("a", "b", "c"), (40, 7, 3))
READS = np.random.default_rng(0).permutation(50).astype(np.float64)
NORMS = np.random.default_rng(1).random(50)
ROWS = ("frequency", "magnitude")
DIMS = ("uniform", "mde")


LAYERS = {
    "alpha": np.random.default_rng(2).normal(size=(3, 5)) + np.arange(5),
    "tenth": np.full((3, 8), -20.0),
}
"""Parameters of all rivals' layers: the more columns, the likelier, and thresholds of nothing."""


def task(limit, keeps_stand_ins=True, reads=READS):
    rows = np.random.default_rng(3).normal(size=(50, 8)).astype(np.float32)
    return Task(
        FIELDS,
        reads,
        8,
        limit,
        keeps_stand_ins,
        lambda: NORMS,
        relaxed=lambda: Relaxed(rows, LAYERS),
    )


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("limit", [200, 237, 400, 10_000])
def test_a_choice_keeps_to_the_budget_and_to_what_the_mode_says(name, limit):
    rival, numbers = RIVALS[name], min(limit, 400)
    choice = check(task(limit), rival.choose(task(limit)))
    assert 0.6 * numbers <= choice.numbers(FIELDS) <= numbers
    if rival.mode == "feature":
        assert choice.rows[FIELDS.oov_ids].all()
        assert (choice.dims == 8).all() and choice.rows.sum() == numbers // 8
    elif rival.kept is not ElementTable:
        assert choice.rows.all()
    if limit >= 400:
        # All there is; the value that nothing reads may be without.
        assert choice.numbers(FIELDS) == (392 if rival.kept is ElementTable else 400)


@pytest.mark.parametrize("name", RIVALS)
def test_a_choice_comes_back_as_it_was_saved(name):
    choice = RIVALS[name].choose(task(237))
    back = RIVALS[name].kept.from_arrays(choice.arrays(), FIELDS)
    assert back.arrays().keys() == choice.arrays().keys()
    for key, array in back.arrays().items():
        np.testing.assert_array_equal(array, choice.arrays()[key])
    assert back.numbers(FIELDS) == choice.numbers(FIELDS)


LEAST = {"feature": 3 * 8, "embed": 50, "hash": 8, "qr": 8 * (7 + 6 + 6 + 3), "pep": None}
"""Numbers below which there is no table; ``qr`` stores 13 rows of the first field."""


@pytest.mark.parametrize("name", RIVALS)
def test_a_budget_below_the_smallest_table_is_refused(name):
    least = LEAST.get(name, LEAST[RIVALS[name].mode])
    if least is None:
        assert RIVALS[name].choose(task(1)).numbers(FIELDS) == 1
        return
    RIVALS[name].choose(task(least))
    with pytest.raises(InputError, match="raise"):
        RIVALS[name].choose(task(least - 1))


def test_frequency_keeps_what_training_reads_most():
    choice = RIVALS["frequency"].choose(task(20 * 8, keeps_stand_ins=False))
    assert set(np.flatnonzero(choice.rows)) == set(np.argsort(-READS)[:20])


def test_magnitude_keeps_the_largest_norms_of_what_training_read():
    reads = np.where(np.arange(50) % 2, READS + 1, 0)
    choice = RIVALS["magnitude"].choose(task(20 * 8, keeps_stand_ins=False, reads=reads))
    trained = np.where(reads > 0, NORMS, 0)
    assert set(np.flatnonzero(choice.rows)) == set(np.argsort(-trained)[:20])
    assert reads[choice.rows].min() > 0


@pytest.mark.parametrize(("limit", "dim"), [(50, 1), (99, 1), (100, 2), (349, 6), (400, 8)])
def test_uniform_is_the_largest_dimension_that_all_fields_can_have(limit, dim):
    assert RIVALS["uniform"].choose(task(limit)).dims.tolist() == [dim] * 3


@pytest.mark.parametrize("limit", [70, 137, 220, 330])
def test_mde_is_the_power_law_of_the_paper_at_the_largest_factor(limit):
    probability = 1 / np.array(FIELDS.sizes)

    def dims_at(factor):  # Algorithm 2, rounded and clipped.
        return np.clip(np.floor(factor * probability**TEMPERATURE + 0.5), 1, 8)

    def cost(factor):
        return (dims_at(factor) * FIELDS.sizes).sum()

    factors = np.linspace(0.01, 40, 40_000)
    best = max(factor for factor in factors if cost(factor) <= limit)
    found = RIVALS["mde"].choose(task(limit)).dims
    assert found.tolist() == dims_at(best).tolist()
    assert (np.diff(found) >= 0).all()  # The rarer a row is read, the fewer columns.


def test_without_a_temperature_mde_would_be_uniform(monkeypatch):
    monkeypatch.setattr("optembed_jax.rivals.mixed_dimensions.TEMPERATURE", 0.0)
    uniform = RIVALS["uniform"].choose(task(220)).dims
    assert RIVALS["mde"].choose(task(220)).dims.tolist() == uniform.tolist()


def test_a_method_that_is_not_there_is_told_with_those_that_are():
    assert rival_of("optembed") is None and METHODS[0] == "optembed"
    with pytest.raises(InputError, match=r"method must be one of optembed, frequency, .*'best'"):
        rival_of("best")


@pytest.mark.parametrize(
    ("rows", "dims"), [(50, (9, 1, 1)), (50, (0, 1, 1)), (49, (1, 1, 1)), (50, (8, 8, 8))]
)
def test_a_choice_that_does_not_fit_is_a_mistake(rows, dims):
    with pytest.raises(ValueError, match=r"choice|parameters"):
        check(task(399), RowsAndDims(np.ones(rows, bool), np.array(dims, np.int32)))
