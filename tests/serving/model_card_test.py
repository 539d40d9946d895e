import pytest

from optembed_jax.serving.model_card import render
from optembed_jax.table.elements import ELEMENTS

MANIFEST = {
    "model": {"model": "dcn", "mode": "all"},
    "full_rows": 4_500,
    "dataset": {"name": "flights"},
    "metrics": {"test_auc": 0.75, "test_logloss": 0.5},
    "fields": [
        {"name": "origin", "rows": 4, "dim": 2, "storage": "int8"},
        {"name": "tail|number", "rows": 4000, "dim": 0, "storage": "float32"},
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
    assert (
        "It has 4,004 rows of a table of 4,500. They take 1,234,567 bytes (float32, int8)" in card
    )
    assert "against 64,064 of the full table" in card
    assert "linear weights 16, positions 5, network 4,321." in card


def test_tables_hold_every_metric_and_field():
    metrics, fields = tables(render(MANIFEST))
    assert metrics == [
        ["metric", "value"],
        ["---", "---"],
        ["test_auc", "0.75"],
        ["test_logloss", "0.5"],
    ]
    assert fields[2:] == [
        ["origin", "4", "2", "int8", "16"],  # four rows of two codes and a scale
        ["tail\\|number", "4,000", "0", "float32", "0"],
    ]
    assert {len(row) for row in fields} == {5}


def test_says_what_each_field_is_worth_where_that_was_measured():
    worth = {"auc": [0.01234, None], "logloss": [0.002, -1e-5], "unseen": [0.0, 0.125]}
    _, fields = tables(render({**MANIFEST, "worth": worth}))
    assert fields[0][4:] == ["bytes", "worth: AUC", "logloss", "unseen"]
    assert fields[2][4:] == ["16", "+0.0123", "+0.00200", "0.0 %"]
    assert fields[3][4:] == ["0", "-", "-0.00001", "12.5 %"]
    card = render({**MANIFEST, "worth": {**worth, "saliency": [0.9375, 0.0625]}})
    assert [line[-1] for line in tables(card)[1]] == ["saliency", "---", "93.8 %", "6.2 %"]


@pytest.mark.parametrize(
    ("storage", "expected"),
    [("float32", 120), ("bfloat16", 60), ("int8", 30 + 20), ("int4", 20 + 20), ("int3_field", 22)],
)
def test_bytes_of_a_field_are_those_of_its_rows_and_scales(storage, expected):
    field = {"name": "a", "rows": 10, "dim": 3, "storage": storage}
    assert tables(render({**MANIFEST, "fields": [field]}))[1][2][4] == str(expected)


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
    fields = [{"name": "a\nb", "rows": 1, "dim": 1, "storage": "int4"}]
    assert "| a b | 1 | 1 | int4 | 3 |\n" in render({**MANIFEST, "fields": fields})


@pytest.mark.parametrize(
    ("mode", "method", "more", "words"),
    [
        ("embed", "pep", {"storage": ELEMENTS}, "single numbers pruned (the method pep)"),
        ("embed", "mde", {}, "dimensions chosen (the method mde)"),
        ("feature", "magnitude", {}, "rows pruned (the method magnitude)"),
        ("embed", "optembed", {}, "dimensions pruned (OptEmbed-D)"),
    ],
)
def test_other_methods_are_not_told_as_optembed(mode, method, more, words):
    fields = [{**field, "numbers": 3, **more} for field in MANIFEST["fields"]]
    model, flags = {"model": "fm", "mode": mode}, {"method": method}
    card = render({**MANIFEST, "model": model, "fields": fields, "flags": flags})
    assert f"embedding table: {words}." in card
    assert ("OptEmbed" in card.split("## Use")[0]) == (method == "optembed")
    assert ("Rare values were pruned" in card) == (mode == "feature")
