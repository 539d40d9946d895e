"""What the comparison of searches makes of its trainings."""

import numpy as np

from experiments.benchmarks.dimension_search_report import summarise, tables
from optembed_jax.search.dimension_rules import DIMENSION_RULES

METHODS = ("search, budget", "search, pareto", "random search", *DIMENSION_RULES)


def records(seed, validation, test):
    """A training of each method, all with dimensions of their own but the last two."""
    dims = [[1, 2], [1, 3], [1, 4], [2, 1], [3, 1], [4, 1], [4, 1]]
    return [
        {
            "dataset": "some",
            "model": "fnn",
            "seed": seed,
            "method": method,
            "share": 0.25,
            "val_auc": val_auc,
            "test_auc": test_auc,
            "dims": own,
        }
        for method, val_auc, test_auc, own in zip(METHODS, validation, test, dims, strict=True)
    ]


def test_a_short_list_keeps_what_validates_best_and_reports_its_test():
    runs = [
        # The budget search is rated best by validation, and the first rule would test better.
        *records(0, [0.8, 0.6, 0.6, 0.7, 0.6, 0.5, 0.5], [0.71, 0.5, 0.5, 0.75, 0.6, 0.5, 0.5]),
        # The first rule is.
        *records(1, [0.6, 0.8, 0.6, 0.7, 0.6, 0.5, 0.5], [0.61, 0.7, 0.5, 0.73, 0.6, 0.5, 0.5]),
    ]
    found = summarise(runs)["some fnn"]["25.0%"]
    assert found["best_rule"] == "uniform"
    methods = found["methods"]
    np.testing.assert_allclose(
        [
            methods[name]["test_auc"]
            for name in (
                "search, budget, short list",
                "search, pareto, short list",
                "random search, short list",
                "best rule by validation",
            )
        ],
        [(0.71 + 0.73) / 2, (0.75 + 0.7) / 2, 0.74, 0.74],
    )
    assert methods["search, budget, short list"]["trainings"] == 4
    assert methods["best rule by validation"]["trainings"] == 3
    np.testing.assert_allclose(
        methods["search, budget, short list"]["minus_best_rule"], (0.71 - 0.75) / 2
    )
    assert "| search, budget, short list | 0.7200 ± 0.0141 |" in tables(summarise(runs))
    # An unfinished comparison has no list yet.
    assert "search, budget, short list" not in summarise(runs[:5])["some fnn"]["25.0%"]["methods"]
