import enum

import numpy as np
import pytest

from optembed_jax.values.columns import plain_texts


class City(enum.StrEnum):
    ROME = "rome"


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (["a", ""], ["a", ""]),
        ([], []),
        (["a", None], ["a", ""]),
        ([None, "a"], ["", "a"]),
        (["a", np.str_("b"), City.ROME], ["a", "b", "rome"]),
        ([City.ROME, "a"], None),
        (["a", 1], None),
        (["a", b"b"], None),
        (("a", "b"), None),
        (np.array(["a"]), None),
    ],
)
def test_lists_of_texts_are_known(values, texts):
    found = plain_texts(values)
    assert texts is None if found is None else [*map(str.__str__, found)] == texts
