"""The forward pass of a bundle as ONNX operators: places in each field's block to logits.

Rows, linear weights and kernels stay in the types that the bundle stores them in, 8 bits or 16,
and become float32 where they are read; runtimes fold the kernels once, when they load the file.
Codes of fewer than 8 bits take 8 there, since few runtimes read a tensor of 4 bits.

The formulas are those of ``numpy_bundle``, which is what the file is compared with.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from optembed_jax.serving import network_storage
from optembed_jax.serving.bundle_content import Content
from optembed_jax.table import packing
from optembed_jax.targets.onnx_graph import Graph


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

    def logits(self, places: Sequence[str]) -> str:
        """Logits float32 ``[N]`` of the place of each field's id in its block, int64 ``[N]``."""
        graph = self.graph
        positions = [self._position(place, field) for field, place in enumerate(places)]
        with_columns = [number for number, field in enumerate(self._fields) if field["dim"]]
        embedded = {number: self._rows(number, positions[number]) for number in with_columns}
        flat = self._flat(embedded, places[0])
        model = self._manifest["model"]["model"]
        if model == "fm":
            linear = graph.op("Add", self._network("bias"), self._linear(places, positions))
            return graph.op("Add", linear, self._pairs(embedded, flat))
        if model == "fnn":
            return self._logit(self._mlp(flat))
        if model == "deepfm":
            deep = self._logit(self._mlp(flat))
            linear = graph.op("Add", deep, self._linear(places, positions))
            return graph.op("Add", linear, self._pairs(embedded, flat))
        if model == "ipnn":
            return self._logit(self._mlp(self._with_products(embedded, flat)))
        cross = self._cross(flat) if model == "dcn" else self._cross_matrices(flat)
        return self._logit(graph.op("Concat", cross, self._mlp(flat), axis=1))

    def _position(self, place: str, field: int) -> str:
        remap = self._tensors.get(f"remap/{field}")
        if remap is None:
            return place
        found = self.graph.op("Gather", self.graph.constant(remap), place)
        return self.graph.op("Cast", found, to=7)  # int64

    def _rows(self, field: int, position: str) -> str:
        graph = self.graph
        rows = self._tensors[f"rows/{field}"]
        read = graph.op("Gather", graph.constant(rows), position, axis=0)
        if rows.dtype != np.float32:
            read = graph.floats(read)
        scale = self._tensors.get(f"scale/{field}")
        if scale is None:
            return read
        of_rows = graph.constant(scale)
        if len(scale) > 1:
            of_rows = graph.as_column(graph.op("Gather", of_rows, position, axis=0))
        return graph.op("Mul", read, graph.floats(of_rows))

    def _flat(self, embedded: Mapping[int, str], any_place: str) -> str:
        """Embeddings side by side ``[N, sum(dims)]``; without any, one column of zeros, which
        :meth:`_dense` knows: no runtime has to multiply matrices without columns.
        """
        graph = self.graph
        if embedded:
            return graph.op("Concat", *embedded.values(), axis=1)
        nothing = graph.op("Mul", any_place, graph.constant(np.int64(0)))
        return graph.floats(graph.as_column(nothing))

    def _stacked(self, embedded: Mapping[int, str]) -> str:
        """Embeddings ``[N, fields, width]``, zeros behind a field's own columns."""
        graph = self.graph
        width = max(self._fields[field]["dim"] for field in embedded)
        padded = []
        for field, value in embedded.items():
            missing = width - self._fields[field]["dim"]
            if missing:
                value = graph.op("Pad", value, graph.constant(np.array([0, 0, 0, missing])))
            padded.append(graph.as_column(value))
        return graph.op("Concat", *padded, axis=1)

    def _pairs(self, embedded: Mapping[int, str], flat: str) -> str:
        """FM's second order, by the sum's square less the squares' sum."""
        graph = self.graph
        squares = graph.sum(graph.op("Mul", flat, flat), 1)
        if not embedded:
            return squares  # which are zero
        total = graph.sum(self._stacked(embedded), 1)
        of_total = graph.sum(graph.op("Mul", total, total), 1)
        return graph.op("Mul", graph.op("Sub", of_total, squares), graph.constant(np.float32(0.5)))

    def _with_products(self, embedded: Mapping[int, str], flat: str) -> str:
        """IPNN's inputs: the embeddings, and the inner product of each pair of them."""
        graph, count = self.graph, len(embedded)
        if count < 2:
            return flat
        stacked = self._stacked(embedded)
        turned = graph.op("Transpose", stacked, perm=[0, 2, 1])
        every = graph.op("MatMul", stacked, turned)
        every = graph.op("Reshape", every, graph.constant(np.array([-1, count * count])))
        wanted = [f * count + g for f, g in itertools.combinations(range(count), 2)]
        products = graph.op("Gather", every, graph.constant(np.array(wanted)), axis=1)
        return graph.op("Concat", flat, products, axis=1)

    def _linear(self, places: Sequence[str], positions: Sequence[str]) -> str:
        graph = self.graph
        by_id = self._manifest["linear_by_id"]
        sizes = [field["ids" if by_id else "rows"] for field in self._fields]
        starts = np.cumsum([0, *sizes[:-1]])
        columns = [graph.as_column(place) for place in (places if by_id else positions)]
        at = graph.op("Add", graph.op("Concat", *columns, axis=1), graph.constant(starts))
        weights = self._tensors["linear"]
        read = graph.op("Gather", graph.constant(weights), at)
        if weights.dtype != np.float32:
            read = graph.floats(read)
        if "linear_scale" in self._tensors:
            read = graph.op("Mul", read, graph.floats(self._constant("linear_scale")))
        return graph.sum(read, 1)

    def _mlp(self, x: str) -> str:
        for layer in range(len(self._manifest["model"]["mlp_dims"])):
            x = self.graph.op("Relu", self._dense(x, f"mlp/Dense_{layer}"))
        return x

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
            return graph.constant(_with_idle_input(array))
        if bits is None:
            return graph.floats(graph.constant(self._stored[f"network/{name}"].astype(storage)))
        numbers = packing.unpack(self._stored[f"network/{name}"], bits, inputs)
        scale = self._stored[f"network/{name}{network_storage.SCALE}"]
        by_output = graph.floats(graph.constant(scale[:, None]))
        kernel = graph.op("Mul", graph.floats(graph.constant(numbers)), by_output)
        return graph.op("Transpose", kernel, perm=[1, 0])

    def _reads_nothing(self, name: str) -> bool:
        """Whether a kernel reads embeddings, of which there are none."""
        if any(field["dim"] for field in self._fields):
            return False
        model = self._manifest["model"]
        first = "mlp/Dense_0" if model["mlp_dims"] else "logit/Dense_0"
        crosses = model["model"] in ("dcn", "dcnv2")
        return name in {f"{first}/kernel", *(["logit/Dense_0/kernel"] if crosses else [])}

    def _network(self, name: str) -> str:
        return self._constant(f"network/{name}")

    def _constant(self, name: str) -> str:
        return self.graph.constant(self._tensors[name])


def _with_idle_input(kernel: np.ndarray) -> np.ndarray:
    """A kernel that reads one column of zeros before its own inputs."""
    return np.concatenate([np.zeros((1, kernel.shape[1]), np.float32), kernel])
