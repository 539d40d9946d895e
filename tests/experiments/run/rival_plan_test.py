"""How a rival finds what a limit of bytes pays for."""

import dataclasses

import numpy as np
import pytest

from experiments.run.rival_plan import spend
from optembed_jax.errors import BudgetError, InputError
from optembed_jax.fields import Fields
from optembed_jax.rivals.registry import RIVALS
from optembed_jax.rivals.rival import Task

FIELDS = Fields(("a", "b", "c"), (400, 70, 30))
TASK = Task(
    FIELDS, np.random.default_rng(0).permutation(500).astype(float), 8, 4000, True, lambda: None
)


def bytes_of(choice):
    """A folder of 1,000 bytes, two for each number and five for each row."""
    return 1000 + 2 * choice.numbers(FIELDS) + 5 * int(choice.rows_per_field(FIELDS).sum())


def spent(name, max_bytes, counted=None):
    counted = [] if counted is None else counted

    def count(choice):
        counted.append(choice.numbers(FIELDS))
        return bytes_of(choice)

    def choose(numbers):
        return RIVALS[name].choose(dataclasses.replace(TASK, limit=numbers))

    return spend(choose, count, FIELDS, 4000, max_bytes, name)


@pytest.mark.parametrize("max_bytes", [4600, 6000, 9999])
@pytest.mark.parametrize("name", ["frequency", "uniform", "mde", "hash", "qr"])
def test_it_is_the_largest_table_that_fits(name, max_bytes):
    counted = []
    found = spent(name, max_bytes, counted)
    assert found.folder_bytes == bytes_of(found.choice) <= max_bytes
    assert len(counted) <= 12
    if name == "uniform":  # The best of all there are.
        fitting = [dim for dim in range(1, 9) if 1000 + 500 * (2 * dim + 5) <= max_bytes]
        assert found.choice.dims.tolist() == [fitting[-1]] * 3
    else:
        assert found.folder_bytes > 0.96 * max_bytes
    again = RIVALS[name].choose(dataclasses.replace(TASK, limit=found.numbers))
    assert again.numbers(FIELDS) == found.choice.numbers(FIELDS)


@pytest.mark.parametrize("name", ["frequency", "uniform", "mde", "hash", "qr"])
def test_what_pays_for_all_keeps_all_and_what_pays_for_nothing_is_refused_with_the_least(name):
    whole = spent(name, 10**6)
    assert whole.choice.numbers(FIELDS) == 4000 == whole.numbers
    with pytest.raises(
        BudgetError, match=f"=1,000 cannot be kept by method={name}: .* up to"
    ) as no:
        spent(name, 1000)
    least = int(str(no.value).split("up to ")[1].split(" bytes")[0].replace(",", ""))
    assert spent(name, least).folder_bytes == least
    with pytest.raises(BudgetError):
        spent(name, least - 1)


def test_what_is_no_matter_of_the_budget_is_refused_as_what_it_is():
    def choose(numbers):
        raise InputError("training left no number")

    with pytest.raises(InputError, match="training left") as refused:
        spend(choose, bytes_of, FIELDS, 4000, 9000, "pep")
    assert not isinstance(refused.value, BudgetError)
