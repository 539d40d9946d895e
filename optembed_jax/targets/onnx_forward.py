"""The forward pass of a bundle as ONNX operators: places in each field's block to logits.

The table is read by ``onnx_table``. Kernels stay in the types that the bundle stores them in, as
rows do there; runtimes fold them once, when they load the file.

The formulas are those of ``numpy_bundle``, which is what the file is compared with.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.serving import network_storage
from optembed_jax.serving.bundle_content import Content
from optembed_jax.table import packing
from optembed_jax.targets.onnx_graph import Graph
from optembed_jax.targets.onnx_table import TableRead


class Forward:
    """Adds the forward pass of a bundle to a graph.

    Attributes:
      graph: gets it.
    """

    def __init__(self, graph: Graph, content: Content, tensors: Mapping[str, np.ndarray]) -> None:
        """A bundle's arrays.

        Args:
          graph: gets the operators.
          content: of the bundle.
          tensors: as they are served (``bundle_content.served``), bfloat16 as such.
        """
        self.graph = graph
        self._manifest, self._stored, self._tensors = content.manifest, content.tensors, tensors
        self._fields: Sequence[Mapping[str, Any]] = content.manifest["fields"]

    def logits(self, ids: str, weights: str | None = None) -> str:
        """Logits float32 ``[N]``.

        Args:
          ids: the place of each id in its field's block, int64 ``[N, S]``.
          weights: what each slot counts among those of its field, float32 ``[N, S]``; None where
            each field has one.

        Raises:
          InputError: nobody has written this backbone here.
        """
        graph = self.graph
        table = TableRead(graph, self._manifest, self._tensors, ids, weights)
        flat = table.flat()
        model = self._manifest["model"]["model"]
        if model == "fm":
            linear = graph.op("Add", self._network("bias"), table.linear())
            return graph.op("Add", linear, self._pairs(table, flat))
        if model == "fnn":
            return self._logit(self._mlp(flat))
        if model == "deepfm":
            deep = self._logit(self._mlp(flat))
            linear = graph.op("Add", deep, table.linear())
            return graph.op("Add", linear, self._pairs(table, flat))
        if model == "ipnn":
            return self._logit(self._mlp(self._with_products(table, flat)))
        if model == "autoint":
            return self._beside_attention(table, flat)
        if model == "dlrm":
            return self._logit(self._mlp(self._products(table) or table.nothing()))
        if model == "finalmlp":
            return self._fused(flat)
        if model not in ("dcn", "dcnv2"):
            raise InputError(f"model {model!r} is not written in targets/onnx_forward.py")
        cross = self._cross(flat) if model == "dcn" else self._cross_matrices(flat)
        return self._logit(graph.op("Concat", cross, self._mlp(flat), axis=1))

    def _pairs(self, table: TableRead, flat: str) -> str:
        """FM's second order, by the sum's square less the squares' sum."""
        graph = self.graph
        squares = graph.sum(graph.op("Mul", flat, flat), 1)
        if not table.arrays:
            return squares  # which are zero
        width = max(part.width for part in table.arrays)
        sums = [graph.sum(table.padded(part, width), 1) for part in table.arrays]
        total = sums[0] if len(sums) == 1 else graph.op("Sum", *sums)
        of_total = graph.sum(graph.op("Mul", total, total), 1)
        return graph.op("Mul", graph.op("Sub", of_total, squares), graph.constant(np.float32(0.5)))

    def _with_products(self, table: TableRead, flat: str) -> str:
        """IPNN's inputs: the embeddings, and the inner product of each pair of them."""
        products = self._products(table)
        return self.graph.op("Concat", flat, products, axis=1) if products else flat

    def _products(self, table: TableRead) -> str | None:
        """The inner product of each pair of embeddings; None where there is no pair."""
        graph, count = self.graph, sum(part.count for part in table.parts)
        if count < 2:
            return None
        stacked = table.stacked()
        turned = graph.op("Transpose", stacked, perm=[0, 2, 1])
        every = graph.op("MatMul", stacked, turned)
        every = graph.op("Reshape", every, graph.constant(np.array([0, count * count])))
        wanted = [f * count + g for f, g in itertools.combinations(range(count), 2)]
        return graph.op("Gather", every, graph.constant(np.array(wanted)), axis=1)

    def _mlp(self, x: str, within: str = "") -> str:
        for layer in range(len(self._manifest["model"]["mlp_dims"])):
            x = self.graph.op("Relu", self._dense(x, f"{within}mlp/Dense_{layer}"))
        return x

    def _fused(self, flat: str) -> str:
        """FinalMLP: two perceptrons, and the bilinear form of what they give."""
        graph = self.graph
        first, second = (self._mlp(flat, f"stream_{n}/") for n in range(2))
        fused = graph.op("Mul", graph.op("MatMul", first, self._kernel("fusion/kernel")), second)
        both = graph.op("Concat", first, second, axis=1)
        return graph.op("Add", self._logit(both), graph.sum(fused, 1))

    def _beside_attention(self, table: TableRead, flat: str) -> str:
        """AutoInt; fields without columns are one vector of zeros, counted as often as they are."""
        graph, has_mlp = self.graph, bool(self._manifest["model"]["mlp_dims"])
        if not table.parts:  # Then all vectors stay zeros: no layer has a bias.
            return self._logit(self._mlp(flat))
        kept = sum(part.count for part in table.parts)
        x, idle = table.stacked(), len(self._fields) - kept
        often = np.ones(kept, np.float32)
        if idle:
            x = graph.op("Pad", x, graph.constant(np.array([0, 0, 0, 0, 1, 0])))
            often = np.append(often, np.float32(idle))
        layers = 0
        while f"network/attention_{layers}/residual/kernel" in self._tensors:
            x = self._interact(x, f"attention_{layers}", np.log(often))
            layers += 1
        width = self._tensors[f"network/attention_{layers - 1}/residual/kernel"].shape[1]
        every = graph.op("Reshape", x, graph.constant(np.array([0, len(often) * width])))
        bounds = [graph.constant(np.array([n])) for n in (0, kept * width, 1)]
        read = graph.op("Slice", every, *bounds)
        if has_mlp:
            read = graph.op("Concat", read, self._mlp(flat), axis=1)
        logit = self._logit(read)
        if not idle:
            return logit
        bounds = [graph.constant(np.array([n])) for n in (kept * width, len(often) * width, 1)]
        zeros = graph.op("Slice", every, *bounds)
        of_idle = graph.op("MatMul", zeros, self._kernel("idle_fields/kernel"))
        return graph.op("Add", logit, graph.op("Squeeze", of_idle, graph.constant(np.array([1]))))

    def _interact(self, x: str, layer: str, log_often: np.ndarray) -> str:
        """An interacting layer of AutoInt, ``[N, T, K]`` to ``[N, T, H]``."""
        graph, heads = self.graph, list[str]()
        while f"network/{layer}/query_{len(heads)}/kernel" in self._tensors:
            query, key, value = (
                graph.op("MatMul", x, self._kernel(f"{layer}/{part}_{len(heads)}/kernel"))
                for part in ("query", "key", "value")
            )
            scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 2, 1]))
            if log_often.any():
                scores = graph.op("Add", scores, graph.constant(log_often))
            heads.append(graph.op("MatMul", graph.op("Softmax", scores, axis=2), value))
        beside = heads[0] if len(heads) == 1 else graph.op("Concat", *heads, axis=2)
        residual = graph.op("MatMul", x, self._kernel(f"{layer}/residual/kernel"))
        return graph.op("Relu", graph.op("Add", beside, residual))

    def _cross(self, first: str) -> str:
        """DCN's cross layers: ``x0 (x . w + offset) + b + x``."""
        graph = self.graph
        weights, biases = (self._tensors[f"network/cross_{n}"] for n in ("weight", "bias"))
        offsets = self._tensors.get("network/cross_offset", np.zeros(len(weights), np.float32))
        x = first
        if not weights.shape[1]:
            return x
        for weight, bias, offset in zip(weights, biases, offsets, strict=True):
            product = graph.op("MatMul", x, graph.constant(weight[:, None]))
            product = graph.op("Add", product, graph.constant(offset))
            step = graph.op("Add", graph.op("Mul", first, product), graph.constant(bias))
            x = graph.op("Add", step, x)
        return x

    def _cross_matrices(self, first: str) -> str:
        graph, x = self.graph, first
        for layer in itertools.count():
            kernel = self._tensors.get(f"network/cross_{layer}/kernel")
            if kernel is None or not kernel.shape[0]:
                return x
            x = graph.op("Add", graph.op("Mul", first, self._dense(x, f"cross_{layer}")), x)
        raise AssertionError  # It returns from within.

    def _logit(self, x: str) -> str:
        return self.graph.op(
            "Squeeze", self._dense(x, "logit/Dense_0"), self.graph.constant(np.array([1]))
        )

    def _dense(self, x: str, name: str) -> str:
        return self.graph.dense(x, self._kernel(f"{name}/kernel"), self._network(f"{name}/bias"))

    def _kernel(self, name: str) -> str:
        """A kernel float32 ``[inputs, outputs]``, stored in the bits that the bundle has."""
        graph, array = self.graph, self._tensors[f"network/{name}"]
        storage, inputs = self._manifest["kernels"].get(name, ("float32", 0))
        bits = packing.bits_of(storage)
        if self._reads_nothing(name):
            # Without hidden layers cross layers are read beside the embeddings themselves.
            return graph.constant(_with_idle_inputs(array, 1 if len(array) else self._idle))
        if bits is None:
            return graph.floats(graph.constant(self._stored[f"network/{name}"].astype(storage)))
        numbers = packing.unpack(self._stored[f"network/{name}"], bits, inputs)
        scale = self._stored[f"network/{name}{network_storage.SCALE}"]
        by_output = graph.floats(graph.constant(scale[:, None]))
        kernel = graph.op("Mul", graph.floats(graph.constant(numbers)), by_output)
        return graph.op("Transpose", kernel, perm=[1, 0])

    @property
    def _idle(self) -> int:
        """Columns of zeros that a kernel without inputs of its own reads."""
        model = self._manifest["model"]
        twice = model["model"] in ("dcn", "dcnv2") and not model["mlp_dims"]
        return 2 if twice else 1

    def _reads_nothing(self, name: str) -> bool:
        """Whether a kernel reads embeddings, or products of them, of which there are none."""
        model, dims = self._manifest["model"], [field["dim"] for field in self._fields]
        least = 2 if model["model"] == "dlrm" else 1
        if sum(dim > 0 for dim in dims) >= least:
            return False
        first = "mlp/Dense_0" if model["mlp_dims"] else "logit/Dense_0"
        crosses = model["model"] in ("dcn", "dcnv2")
        streams = [f"stream_{n}/mlp/Dense_0/kernel" for n in range(2)]
        return name in {
            f"{first}/kernel",
            *(["logit/Dense_0/kernel"] if crosses else []),
            *(streams if model["model"] == "finalmlp" else []),
        }

    def _network(self, name: str) -> str:
        return self._constant(f"network/{name}")

    def _constant(self, name: str) -> str:
        return self.graph.constant(self._tensors[name])


def _with_idle_inputs(kernel: np.ndarray, count: int) -> np.ndarray:
    """A kernel that reads columns of zeros before its own inputs."""
    return np.concatenate([np.zeros((count, kernel.shape[1]), np.float32), kernel])
