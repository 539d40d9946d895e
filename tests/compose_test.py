"""The snippets of docs/compose.md run, in their order, and do what the page says."""

import pathlib
import re

import numpy as np

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "compose.md"


def test_the_snippets_run():
    names = {}
    for number, snippet in enumerate(
        re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    ):
        exec(compile(snippet, f"compose.md, snippet {number}", "exec"), names)
    assert names["logits"].shape == (4,) and names["scores"].shape == (8,)
    assert names["value"] < 0.6  # It learned: it began above .69.
    assert names["rows"].sum() == 152 and names["importance"].shape == (3,)
    history = names["last"].history
    assert history[-1].best > history[0].best and (names["winner"] < 8).any()
    assert names["importance"].max() > 0.05
    assert np.isfinite(names["own"](np.array([[1, 1, 1]]))).all()
