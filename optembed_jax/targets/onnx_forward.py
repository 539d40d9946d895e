"""The forward pass of a bundle as ONNX operators: places in each field's block to logits.

Rows, linear weights and kernels stay in the types that the bundle stores them in, 8 bits or 16,
and become float32 where they are read; runtimes fold the kernels once, when they load the file.
Codes of fewer than 8 bits take 8 there, since few runtimes read a tensor of 4 bits.

The formulas are those of ``numpy_bundle``, which is what the file is compared with.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from optembed_jax.errors import InputError
from optembed_jax.method.bag import Bags
from optembed_jax.serving import network_storage
from optembed_jax.serving.bundle_content import Content
from optembed_jax.serving.forward_module import fields_of
from optembed_jax.table import packing, sharing
from optembed_jax.targets.onnx_graph import Graph

_ZERO = np.int64(0)


@dataclasses.dataclass(frozen=True)
class Part:
    """Embeddings of some fields.

    Attributes:
      value: the tensor ``[N, count, width]``.
      count: of fields.
      width: columns of each.
    """

    value: str
    count: int
    width: int

    @property
    def columns(self) -> int:
        """Of all fields."""
        return self.count * self.width


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
        self._rows_of = [field["rows"] for field in self._fields]
        self._bags = bags_in(content.manifest)
        self._arrays = sharing.sharing(
            *zip(*((f["dim"], f["storage"]) for f in self._fields), strict=True)
        )

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
        self._weights = weights
        places = self._places(ids)
        arrays = [self._read(number, places) for number in range(len(self._arrays))]
        parts = [self._part(arrays, *run) for run in sharing.runs(self._arrays)]
        flat = self._flat(parts, places)
        model = self._manifest["model"]["model"]
        if model == "fm":
            linear = graph.op("Add", self._network("bias"), self._linear(ids, places))
            return graph.op("Add", linear, self._pairs(arrays, flat))
        if model == "fnn":
            return self._logit(self._mlp(flat))
        if model == "deepfm":
            deep = self._logit(self._mlp(flat))
            linear = graph.op("Add", deep, self._linear(ids, places))
            return graph.op("Add", linear, self._pairs(arrays, flat))
        if model == "ipnn":
            return self._logit(self._mlp(self._with_products(parts, flat)))
        if model == "autoint":
            return self._beside_attention(parts, flat)
        if model == "dlrm":
            return self._logit(self._mlp(self._products(parts) or self._nothing(places)))
        if model == "finalmlp":
            return self._fused(flat)
        if model not in ("dcn", "dcnv2"):
            raise InputError(f"model {model!r} is not written in targets/onnx_forward.py")
        cross = self._cross(flat) if model == "dcn" else self._cross_matrices(flat)
        return self._logit(graph.op("Concat", cross, self._mlp(flat), axis=1))

    def _places(self, ids: str) -> str:
        """Where each id's row stands among those of its field, int64 ``[N, S]``."""
        graph = self.graph
        if not any(name.startswith("remap/") for name in self._tensors):
            return ids
        columns = []
        for slot, field in enumerate(self._bags.field_of_slot.tolist()):
            column = graph.column(ids, slot)
            remap = self._tensors.get(f"remap/{field}")
            if remap is not None:
                column = graph.op("Gather", graph.constant(remap), column)
                column = graph.op("Cast", column, to=TensorProto.INT64)
            columns.append(graph.as_column(column))
        return graph.op("Concat", *columns, axis=1)

    def _read(self, number: int, places: str) -> Part:
        """Rows float32 ``[N, k, d]`` of the fields that share an array."""
        graph, fields = self.graph, self._arrays[number]
        begins = sharing.starts(fields, self._rows_of).astype(np.int64)
        slots = self._bags.slots_of_fields(fields)
        of_slot = self._bags.of_fields(fields).field_of_slot
        is_all = slots.tolist() == list(range(self._bags.num_slots))
        chosen = places if is_all else self._columns(places, slots)
        at = graph.op("Add", chosen, graph.constant(begins[of_slot]))
        rows = self._tensors[f"rows/{number}"]
        read = graph.op("Gather", graph.constant(rows), at, axis=0)
        if rows.dtype != np.float32:
            read = graph.floats(read)
        scale = self._tensors.get(f"scale/{number}")
        if scale is not None:
            # Of each field, or of each row; one field of one row is the same either way.
            if scale.shape == begins.shape:
                each = graph.constant(scale[of_slot][:, None])
            else:
                each = graph.op("Gather", graph.constant(scale), at)
                each = graph.op("Unsqueeze", each, graph.constant(np.array([2])))
            read = graph.op("Mul", read, graph.floats(each))
        if len(slots) > len(fields):
            assert self._weights is not None
            counted = self._columns(self._weights, slots)
            counted = graph.op("Unsqueeze", counted, graph.constant(np.array([2])))
            belongs = (of_slot == np.arange(len(fields))[:, None]).astype(np.float32)
            read = graph.op("MatMul", graph.constant(belongs), graph.op("Mul", read, counted))
        return Part(read, len(fields), rows.shape[1])

    def _columns(self, value: str, numbers: np.ndarray) -> str:
        """Some columns of ``[N, S]``."""
        return self.graph.op("Gather", value, self.graph.constant(numbers), axis=1)

    def _part(self, arrays: Sequence[Part], array: int, begin: int, end: int) -> Part:
        """Some neighbours of the fields of an array."""
        whole = arrays[array]
        if (begin, end) == (0, whole.count):
            return whole
        bounds = [self.graph.constant(np.array([n])) for n in (begin, end, 1)]
        return Part(self.graph.op("Slice", whole.value, *bounds), end - begin, whole.width)

    def _flat(self, parts: Sequence[Part], places: str) -> str:
        """Embeddings side by side ``[N, sum(dims)]``; without any, one column of zeros, which
        :meth:`_kernel` knows: no runtime has to multiply matrices without columns.
        """
        graph = self.graph
        if parts:
            flat = [
                graph.op("Reshape", part.value, graph.constant(np.array([0, part.columns])))
                for part in parts
            ]
            return flat[0] if len(flat) == 1 else graph.op("Concat", *flat, axis=1)
        return self._nothing(places)

    def _nothing(self, places: str) -> str:
        """A column of zeros ``[N, 1]``."""
        nothing = self.graph.op("Mul", self.graph.column(places, 0), self.graph.constant(_ZERO))
        return self.graph.floats(self.graph.as_column(nothing))

    def _stacked(self, parts: Sequence[Part]) -> str:
        """Embeddings ``[N, k, width]`` of the fields with columns, zeros behind those of each."""
        width = max(part.width for part in parts)
        padded = [self._padded(part, width) for part in parts]
        return padded[0] if len(padded) == 1 else self.graph.op("Concat", *padded, axis=1)

    def _padded(self, part: Part, width: int) -> str:
        """``[N, k, width]``: zeros behind a field's own columns."""
        if part.width == width:
            return part.value
        behind = np.array([0, 0, 0, 0, 0, width - part.width])
        return self.graph.op("Pad", part.value, self.graph.constant(behind))

    def _pairs(self, arrays: Sequence[Part], flat: str) -> str:
        """FM's second order, by the sum's square less the squares' sum."""
        graph = self.graph
        squares = graph.sum(graph.op("Mul", flat, flat), 1)
        if not arrays:
            return squares  # which are zero
        width = max(part.width for part in arrays)
        sums = [graph.sum(self._padded(part, width), 1) for part in arrays]
        total = sums[0] if len(sums) == 1 else graph.op("Sum", *sums)
        of_total = graph.sum(graph.op("Mul", total, total), 1)
        return graph.op("Mul", graph.op("Sub", of_total, squares), graph.constant(np.float32(0.5)))

    def _with_products(self, parts: Sequence[Part], flat: str) -> str:
        """IPNN's inputs: the embeddings, and the inner product of each pair of them."""
        products = self._products(parts)
        return self.graph.op("Concat", flat, products, axis=1) if products else flat

    def _products(self, parts: Sequence[Part]) -> str | None:
        """The inner product of each pair of embeddings; None where there is no pair."""
        graph, count = self.graph, sum(part.count for part in parts)
        if count < 2:
            return None
        stacked = self._stacked(parts)
        turned = graph.op("Transpose", stacked, perm=[0, 2, 1])
        every = graph.op("MatMul", stacked, turned)
        every = graph.op("Reshape", every, graph.constant(np.array([0, count * count])))
        wanted = [f * count + g for f, g in itertools.combinations(range(count), 2)]
        return graph.op("Gather", every, graph.constant(np.array(wanted)), axis=1)

    def _linear(self, ids: str, places: str) -> str:
        graph = self.graph
        by_id = self._manifest["linear_by_id"]
        sizes = [field["ids" if by_id else "rows"] for field in self._fields]
        of_slot = self._bags.field_of_slot
        starts = sharing.starts(range(len(sizes)), sizes).astype(np.int64)[of_slot]
        at = graph.op("Add", ids if by_id else places, graph.constant(starts))
        weights = self._tensors["linear"]
        read = graph.op("Gather", graph.constant(weights), at)
        if weights.dtype != np.float32:
            read = graph.floats(read)
        if "linear_scale" in self._tensors:
            scale = graph.constant(self._tensors["linear_scale"][of_slot])
            read = graph.op("Mul", read, graph.floats(scale))
        if self._weights is not None:
            read = graph.op("Mul", read, self._weights)
        return graph.sum(read, 1)

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

    def _beside_attention(self, parts: Sequence[Part], flat: str) -> str:
        """AutoInt; fields without columns are one vector of zeros, counted as often as they are."""
        graph, has_mlp = self.graph, bool(self._manifest["model"]["mlp_dims"])
        if not parts:  # Then all vectors stay zeros: no layer has a bias.
            return self._logit(self._mlp(flat))
        kept = sum(part.count for part in parts)
        x, idle = self._stacked(parts), len(self._fields) - kept
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


def bags_in(manifest: Mapping[str, Any]) -> Bags:
    """How the slots of a bundle's fields are pooled."""
    fields = fields_of(manifest["fields"])
    return Bags(fields.slots, fields.num_features, manifest["model"].get("pooling", "mean"))


def _with_idle_inputs(kernel: np.ndarray, count: int) -> np.ndarray:
    """A kernel that reads columns of zeros before its own inputs."""
    return np.concatenate([np.zeros((count, kernel.shape[1]), np.float32), kernel])
