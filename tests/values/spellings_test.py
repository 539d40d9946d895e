import pytest

from optembed_jax.values.rule import BINARY, BOOLEAN, MISSING_WORDS, MOMENT, NUMBER, TEXT, Rule
from optembed_jax.values.spellings import spellings

VALUES = {
    TEXT: ["", "a", "12", "12.0", "true", "2024-03-02"],
    NUMBER: ["0", "12", "-3", "1.5", "-0.25", "x", "123456789012345678901", "0.00001", "1e+20"],
    BINARY: ["0", "1", "2"],
    BOOLEAN: ["true", "false", "maybe"],
    MOMENT: [
        "2024-03-02",
        "2024-03-02 14:30:00",
        "2024-03-02 14:30:00.25",
        "2024-03-02 14:30:00Z",
        "14:30:00",
        "14:30:01",
    ],
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_rule_reads_each_of_them_as_the_value(kind):
    for words in (False, True):
        rule = Rule(kind, words)
        for text in VALUES[kind]:
            found = spellings(rule, text)
            assert found[0] == text and len(set(found)) == len(found)
            assert {rule.canonical(other) for other in found} == {text}
        missing = spellings(rule, None)
        assert missing[0] == "" and set(missing[1:]) == (MISSING_WORDS if words else set())


def test_what_tools_make_of_a_value_is_among_them():
    assert "12.0" in spellings(Rule(NUMBER), "12")  # a column with a missing value, as floats
    assert "-0.0" in spellings(Rule(NUMBER), "0")
    assert "True" in spellings(Rule(BINARY), "1") and "1" in spellings(Rule(BOOLEAN), "true")
    assert "2024-03-02 00:00:00" in spellings(Rule(MOMENT), "2024-03-02")
    assert "14:30" in spellings(Rule(MOMENT), "14:30:00")
    assert "1e-05" in spellings(Rule(NUMBER), "0.00001")
    assert spellings(Rule(), "12") == ("12",)
