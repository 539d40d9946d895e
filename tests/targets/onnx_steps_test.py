import datetime

import numpy as np
import pytest

from optembed_jax.values import steps

onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")

from optembed_jax.targets.onnx_graph import Graph  # noqa: E402
from optembed_jax.targets.onnx_steps import NUMBER_STEPS  # noqa: E402

DAYS = [datetime.datetime(1600, 2, 27) + datetime.timedelta(days=n) for n in range(0, 200000, 3)]
LEAPS = [
    datetime.datetime(year, month, day, 23, 59, 59)
    for year in (1600, 1700, 1899, 1900, 1969, 1970, 1999, 2000, 2004, 2024, 2100)
    for month, day in ((1, 1), (2, 28), (3, 1), (12, 31))
]
SECONDS = [int((moment - datetime.datetime(1970, 1, 1)).total_seconds()) for moment in DAYS + LEAPS]
HOURS = [
    int((datetime.datetime(2000, 1, 1) + datetime.timedelta(hours=n)).strftime("%y%m%d%H"))
    for n in range(0, 870000, 37)
]
# Around each border of the buckets, which are at exp(sqrt(n)).
BORDERS = [int(np.exp(np.sqrt(n))) + k for n in range(1, 600) for k in (-1, 0, 1)]


def test_every_step_that_makes_integers_of_integers_has_operators():
    assert set(NUMBER_STEPS) == set(steps._PLAIN)


@pytest.mark.parametrize("name", NUMBER_STEPS)
def test_operators_give_what_the_step_gives(name):
    values = SECONDS
    if name == "log_bucket":
        values = [-(10**9), -1, 0, 1, 2, 3, *BORDERS, 10**14]
    if name in ("hour_of_day", "weekday", "is_weekend"):
        values = HOURS
    graph = Graph()
    made = NUMBER_STEPS[name](graph, graph.input("x", onnx.TensorProto.DOUBLE))
    model = graph.model({"y": graph.floats(made)}, {})
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(["y"], {"x": np.array(values, np.float64)})
    texts = [f"{v:08d}" if values is HOURS else str(v) for v in values]
    expected = [int(steps._PLAIN[name](text)) for text in texts]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
