import pytest

from experiments.run.search_options import SearchOptions
from optembed_jax.errors import InputError


def test_one_number_is_a_budget_and_the_smaller_of_two_holds():
    assert SearchOptions().limit is None and SearchOptions().strategy == "paper"
    assert SearchOptions(max_table_bytes=4099).limit == 1024
    both = SearchOptions(max_table_bytes=4000, max_table_parameters=1500)
    assert both.limit == 1000 and both.strategy == "budget"
    assert SearchOptions("pareto").strategy == "pareto"
    assert SearchOptions("corner", max_table_parameters=5).strategy == "corner"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"search": "best"}, "search must be one of auto, paper, .*, not 'best'"),
        ({"search": "budget"}, "search=budget needs a budget"),
        ({"search": "log_v"}, "search=log_v needs a budget"),
        ({"search": "paper", "max_table_bytes": 9}, "search=paper knows neither budget"),
        ({"search": "paper", "keep_rates": (0.5,)}, "search=paper knows neither budget"),
        ({"max_table_parameters": 0}, "max_table_parameters must be at least 1, not 0"),
        ({"max_table_bytes": -4}, "max_table_bytes must be at least 1"),
        ({"pad_dims_to": 0}, "pad_dims_to must be at least 1"),
        ({"pad_for": "v4-8"}, "a topology is one of v5p-N, v6e-N, tpu7x-N, not 'v4-8'"),
        ({"pad_for": "v5p-8", "pad_dims_to": 8}, "leave out pad_dims_to"),
        ({"fitness": "lift"}, "fitness must be one of auc, logloss, not 'lift'"),
        ({"keep_rates": (0.5, 1.5)}, r"keep_rates must be in \(0, 1\], not 1.5"),
        ({"keep_rates": (0.5, 0.5)}, "keep_rates must differ"),
    ],
)
def test_what_does_not_go_together_is_refused(options, complaint):
    with pytest.raises(InputError, match=complaint):
        SearchOptions(**options)


def test_tables_are_counted_as_chips_store_them():
    assert (SearchOptions().rows_multiple, SearchOptions().dims_multiple) == (1, 1)
    assert SearchOptions(pad_dims_to=4).dims_multiple == 4
    for name, multiples in (("v5p-8", (128, 8)), ("tpu7x-8", (128, 16))):
        options = SearchOptions(pad_for=name)
        assert (options.rows_multiple, options.dims_multiple) == multiples
