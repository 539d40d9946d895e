import dataclasses

import pytest

from optembed_jax.data import prepared
from optembed_jax.errors import InputError


def test_clicks_are_counted_from_the_rate():
    def of(rows, clicks):
        values = dict.fromkeys(field.name for field in dataclasses.fields(prepared.PreparedData))
        rates = {"test": clicks / rows}
        return prepared.PreparedData(**values | {"num_rows": {"test": rows}, "label_rate": rates})

    for rows, clicks in ((7, 1), (3, 2), (1_000_003, 999_999), (45_840_617, 11_745_671)):
        assert of(rows, clicks).clicks("test") == clicks
    with pytest.raises(InputError, match="no split"):
        of(3, 1).clicks("dev")
