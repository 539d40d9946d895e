"""An ONNX graph that is put together value by value, and the file that it becomes."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from optembed_jax import __version__

OPSET, ML_OPSET, IR_VERSION = 17, 3, 8
"""Of 2022: old enough for runtimes that are in use, and it has all that is needed."""

_ML = "ai.onnx.ml"


class Graph:
    """Values by name: inputs, constants, and what operators of the standard make of them.

    Attributes:
      inputs: described, in order.
    """

    def __init__(self) -> None:
        self.inputs: list[onnx.ValueInfoProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def input(self, name: str, kind: int, *columns: int) -> str:
        """A tensor ``[batch, *columns]`` that the caller gives, of a ``TensorProto`` type."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["batch", *columns]))
        return name

    def constant(self, array: np.ndarray | Any) -> str:
        """An array that is stored in the file."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """What an operator of ``ai.onnx`` gives."""
        return self._node(kind, inputs, "", attributes)

    def ml_op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """What an operator of ``ai.onnx.ml`` gives."""
        return self._node(kind, inputs, _ML, attributes)

    def _node(self, kind: str, inputs: tuple[str, ...], domain: str, attributes: Any) -> str:
        name = f"v{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes)
        )
        return name

    def column(self, table: str, number: int) -> str:
        """Column ``[N]`` of a tensor ``[N, F]``."""
        return self.op("Gather", table, self.constant(np.int64(number)), axis=1)

    def floats(self, value: str) -> str:
        """The value in float32."""
        return self.op("Cast", value, to=TensorProto.FLOAT)

    def sum(self, value: str, axis: int) -> str:
        """The sum over an axis, which goes."""
        return self.op("ReduceSum", value, self.constant(np.array([axis])), keepdims=0)

    def as_column(self, value: str) -> str:
        """``[N]`` as ``[N, 1]``."""
        return self.op("Unsqueeze", value, self.constant(np.array([1])))

    def dense(self, x: str, kernel: str, bias: str) -> str:
        """``x @ kernel + bias``, of ``[N, I]``, ``[I, O]`` and ``[O]``."""
        return self.op("Gemm", x, kernel, bias)

    def model(self, outputs: dict[str, str], about: dict[str, str]) -> onnx.ModelProto:
        """The file: outputs float32 ``[batch]`` by name, and texts about the model.

        Raises:
          onnx.checker.ValidationError: it is no valid model.
        """
        for name, value in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        infos = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"]) for name in outputs
        ]
        graph = helper.make_graph(self._nodes, "optembed", self.inputs, infos, self._constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_ML, ML_OPSET)]
        made = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=IR_VERSION,
            producer_name="optembed-jax",
            producer_version=__version__,
        )
        helper.set_model_props(made, about)
        onnx.checker.check_model(made, full_check=True)
        return made
