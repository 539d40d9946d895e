"""Which texts mean the same is asked of whole columns in forms_test.py."""

import pytest

from optembed_jax.errors import InputError
from optembed_jax.values.rule import Rule, is_with_exponent


def test_other_kinds_are_refused():
    for arguments in (("numbers",), ("text", 1)):
        with pytest.raises(InputError, match="no way of writing a column"):
            Rule(*arguments)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("1e-05", True), ("2.5e-7", True), ("-1.234567e+06", True), ("1e+308", True),
        ("1e5", False), ("1E-05", False), ("1.0e-05", False), ("1.20e-05", False), ("0e-05", False),
        ("1e-999", False), ("1e+309", False), ("+1e-05", False), ("12e-05", False), ("e-05", False),
        ("1.00000000000000001e+06", False), ("4.9e-324", False), ("5e-324", True),
        ("1e-1234", False),
    ],
)  # fmt: skip
def test_what_is_a_number_with_an_exponent(text, is_one):
    assert is_with_exponent(text) == is_one
    written = Rule("number").canonical(text)
    assert float(written) == float(text) if is_one else written == text
