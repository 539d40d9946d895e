import pyarrow as pa
import pytest

from optembed_jax.data.raw import labels
from optembed_jax.errors import InputError


def strings(values):
    return pa.array(values, pa.string())


def test_zero_or_one():
    texts = {
        "0": 0, "1": 1, "1.0": 1, "0.00": 0, "1e0": 1, "+1": 1, "-0": 0,
        "true": 1, "True": 1, "FALSE": 0,
        "2": 255, "-1": 255, "0.5": 255, "yes": 255, None: 255, "NULL": 255, "nan": 255,
    }  # fmt: skip
    assert labels.zero_or_one(strings(list(texts))).tolist() == list(texts.values())


@pytest.mark.parametrize(
    ("positive", "texts"),
    [
        ("1", {"1": 1, "-1": 0, "1.0": 1, "01": 1, "11": 0, None: 255}),
        ("yes", {"yes": 1, "no": 0, "Yes": 0, "y": 0, "NA": 0, None: 255}),
        ("yes", {"yes": 1, "NULL": 255, "nan": 255, "NaN": 255, "\\N": 255}),
        ("NULL", {"NULL": 1, "null": 255, "1": 0}),
        ("True", {"true": 1, "True": 1, "false": 0}),
        ("0", {"0": 1, "1": 0, "false": 1}),
        (" b ", {"b": 1, "a": 0}),
    ],
)
def test_one_value_is_the_positive_one(positive, texts):
    found = labels.is_value("y", positive)
    assert found.source == "y"
    assert found.rule(strings(list(texts))).tolist() == list(texts.values())


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("rating>=4", "rating", [0, 1, 1, 255, 255]),
        ("rating > 4", "rating", [0, 0, 1, 255, 255]),
        ("my rating<4.0", "my rating", [1, 0, 0, 255, 255]),
        ("a<=4", "a", [1, 1, 0, 255, 255]),
        (" a == 4 ", "a", [0, 1, 0, 255, 255]),
        ("a!=4", "a", [1, 0, 1, 255, 255]),
        ("a>-1e1", "a", [1, 1, 1, 255, 255]),
    ],
)
def test_a_comparison(text, source, expected):
    label = labels.compared(text)
    assert label.source == source
    assert label.rule(strings(["3.5", "4", "4.5", None, "x"])).tolist() == expected


@pytest.mark.parametrize("text", ["rating", "rating>=", ">=4", "rating=4", "rating>=four", "r>NA"])
def test_other_comparisons_are_refused(text):
    with pytest.raises(InputError, match="such as rating>=4, not"):
        labels.compared(text)


def test_no_value_is_refused():
    with pytest.raises(InputError, match="label_positive must be a value"):
        labels.is_value("y", " ")
