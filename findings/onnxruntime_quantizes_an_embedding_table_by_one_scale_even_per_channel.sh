#!/usr/bin/env bash
# onnxruntime 1.32.0: quantize_dynamic(per_channel=True) gives an embedding table one scale, and small rows become 0.
#
# "Quantize weights per channel", says the documentation of the argument. MatMul's weights get a scale a column; the
# table of a Gather is quantised as a whole in either case, and nothing is said. So the largest number in the table
# sets the step for all, and what is below 1/510 of the table's range reads as zero. In CTR tables rows differ that
# much, as those of frequent values grow and rare ones stay where they began; all of these then have one score.
# Gather is among what is quantised if nothing is named. The file is a quarter of the size, and loads.
# Expected: a scale a row or a column, or a warning that the table has none.
# Around it: `nodes_to_exclude` for the table's Gather, or rows quantised by row before, as this project can export them.
#
# Seen on 2026-11-29 with onnxruntime 1.32.0, onnx 1.23.2; 1,000 rows of 16 numbers up to 0.01, the first of 6:
#     scales of the dense layer: 4, of the table: 1
#     different outputs of 999 values: 999 as floats, 1 quantised
#     by row, in NumPy: 999
#
# Succeeds while that is so; fails once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --disable-pip-version-check \
    onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import logging
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

logging.disable(logging.WARNING)
ROWS, DIM, UNITS = 1_000, 16, 4
rng = np.random.default_rng(0)
table = rng.uniform(-0.01, 0.01, (ROWS, DIM)).astype(np.float32)
table[0] = 6.0
kernel = rng.normal(size=(DIM, UNITS)).astype(np.float32)
graph = helper.make_graph(
    [
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="look_up"),
        helper.make_node("MatMul", ["rows", "kernel"], ["out"], name="dense"),
    ],
    "model",
    [helper.make_tensor_value_info("ids", TensorProto.INT64, [None])],
    [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None, UNITS])],
    [numpy_helper.from_array(table, "table"), numpy_helper.from_array(kernel, "kernel")],
)
plain, small = (str(Path(sys.argv[1], name)) for name in ("plain.onnx", "small.onnx"))
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), plain)
quantize_dynamic(plain, small, per_channel=True)


def distinct(outputs):
    return len(np.unique(outputs, axis=0))


def outputs(path):
    """What the model gives for each value but the large one, one at a time as a server is asked."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"ids": np.array([row])})[0] for row in range(1, ROWS)])


scales = {
    part.name.removesuffix("_scale"): numpy_helper.to_array(part).size
    for part in onnx.load(small).graph.initializer
    if part.name.endswith("_scale")
}
floats, quantised = distinct(outputs(plain)), distinct(outputs(small))
step = np.abs(table).max(axis=1, keepdims=True) / 127
by_row = distinct((np.round(table / step) * step)[1:] @ kernel)
print(f"scales of the dense layer: {scales['kernel']}, of the table: {scales['table']}")
print(f"different outputs of {ROWS - 1} values: {floats} as floats, {quantised} quantised")
print("by row, in NumPy:", by_row)
assert scales == {"kernel": UNITS, "table": 1}
assert floats == by_row == ROWS - 1
assert quantised == 1
PY
"$folder/env/bin/python" "$folder/show.py" "$folder"
