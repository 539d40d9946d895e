import pytest

from optembed_jax.serving.model_card import render

MANIFEST = {
    "model": {"model": "dcn", "mode": "all"},
    "storage": "int8",
    "dataset": {"name": "flights"},
    "metrics": {"test_auc": 0.75, "test_logloss": 0.5},
    "fields": [
        {"name": "origin", "rows": 4, "rows_kept": 3, "dim": 2},
        {"name": "tail|number", "rows": 4000, "rows_kept": 0, "dim": 0},
    ],
    "bytes": {"rows": 1234567, "full_table": 64064, "linear": 16, "remap": 5, "network": 4321},
}


def tables(card):
    """Tables of the card, each a list of rows of cells."""
    found = [[]]
    for line in card.splitlines():
        if line.startswith("| "):
            found[-1].append(line.removeprefix("| ").removesuffix(" |").split(" | "))
        elif found[-1]:
            found.append([])
    return found[:-1]


def test_says_what_the_model_is_and_weighs():
    card = render(MANIFEST)
    assert card.startswith("# dcn on flights\n\n") and card.endswith("\n")
    assert "embedding table: rows and dimensions pruned (OptEmbed)." in card
    assert "It keeps 3 of 4,004 rows. Rows take 1,234,567 bytes (int8), against 64,064" in card
    assert "linear weights 16, positions 5, network 4,321." in card


def test_tables_hold_every_metric_and_field():
    metrics, fields = tables(render(MANIFEST))
    assert metrics == [
        ["metric", "value"],
        ["---", "---"],
        ["test_auc", "0.75"],
        ["test_logloss", "0.5"],
    ]
    assert fields[2:] == [["origin", "4", "3", "2"], ["tail\\|number", "4,000", "0", "0"]]
    assert {len(row) for row in fields} == {4}


@pytest.mark.parametrize(
    ("mode", "words"),
    [("feature", "rows pruned (OptEmbed-E)"), ("embed", "dimensions pruned"), ("none", "nothing")],
)
def test_names_the_mode(mode, words):
    assert words in render({**MANIFEST, "model": {"model": "fm", "mode": mode}})


def test_nothing_recorded():
    card = render({**MANIFEST, "metrics": {}, "dataset": {}})
    assert card.startswith("# dcn on an unnamed data set\n")
    assert "## Quality\n\nNone were recorded.\n" in card


def test_names_with_line_ends_stay_in_their_row():
    fields = [{"name": "a\nb", "rows": 1, "rows_kept": 1, "dim": 1}]
    assert "| a b | 1 | 1 | 1 |\n" in render({**MANIFEST, "fields": fields})
