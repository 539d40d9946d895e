"""What a bundle's table gives for ids, as ONNX operators: embeddings and the linear term.

Rows and linear weights stay in the types that the bundle stores them in, 8 bits or 16, and become
float32 where they are read. Codes of fewer than 8 bits take 8 there, since few runtimes read a
tensor of 4 bits.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from optembed_jax.method.bag import Bags
from optembed_jax.serving.forward_module import fields_of
from optembed_jax.table import sharing
from optembed_jax.targets.onnx_graph import Graph


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


class TableRead:
    """Adds the lookup of a bundle to a graph.

    Attributes:
      graph: gets the operators.
      arrays: of the fields that share an array, one after the other.
      parts: the same in the order of the fields: a run of neighbours of an array each.
    """

    def __init__(
        self,
        graph: Graph,
        manifest: Mapping[str, Any],
        tensors: Mapping[str, np.ndarray],
        ids: str,
        weights: str | None,
    ) -> None:
        """What to read of which arrays.

        Args:
          graph: gets the operators.
          manifest: of the bundle.
          tensors: as they are served (``bundle_content.served``), bfloat16 as such.
          ids: the place of each id in its field's block, int64 ``[N, S]``.
          weights: what each slot counts among those of its field, float32 ``[N, S]``; None where
            each field has one.
        """
        self.graph = graph
        self._manifest, self._tensors = manifest, tensors
        self._fields: Sequence[Mapping[str, Any]] = manifest["fields"]
        self._rows_of = [field["rows"] for field in self._fields]
        self._bags = bags_in(manifest)
        self._arrays = sharing.sharing(
            *zip(*((f["dim"], f["storage"]) for f in self._fields), strict=True)
        )
        self._ids, self._weights = ids, weights
        self._places = self._place(ids)
        self.arrays = [self._read(number) for number in range(len(self._arrays))]
        self.parts = [self._part(*run) for run in sharing.runs(self._arrays)]

    def _place(self, ids: str) -> str:
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

    def _read(self, number: int) -> Part:
        """Rows float32 ``[N, k, d]`` of the fields that share an array."""
        graph, fields = self.graph, self._arrays[number]
        begins = sharing.starts(fields, self._rows_of).astype(np.int64)
        slots = self._bags.slots_of_fields(fields)
        of_slot = self._bags.of_fields(fields).field_of_slot
        is_all = slots.tolist() == list(range(self._bags.num_slots))
        chosen = self._places if is_all else self._columns(self._places, slots)
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

    def _part(self, array: int, begin: int, end: int) -> Part:
        """Some neighbours of the fields of an array."""
        whole = self.arrays[array]
        if (begin, end) == (0, whole.count):
            return whole
        bounds = [self.graph.constant(np.array([n])) for n in (begin, end, 1)]
        return Part(self.graph.op("Slice", whole.value, *bounds), end - begin, whole.width)

    def flat(self) -> str:
        """Embeddings side by side ``[N, sum(dims)]``; without any, one column of zeros: no runtime
        has to multiply matrices without columns.
        """
        graph = self.graph
        if not self.parts:
            return self.nothing()
        flat = [
            graph.op("Reshape", part.value, graph.constant(np.array([0, part.columns])))
            for part in self.parts
        ]
        return flat[0] if len(flat) == 1 else graph.op("Concat", *flat, axis=1)

    def nothing(self) -> str:
        """A column of zeros ``[N, 1]``."""
        zero = self.graph.constant(np.int64(0))
        nothing = self.graph.op("Mul", self.graph.column(self._places, 0), zero)
        return self.graph.floats(self.graph.as_column(nothing))

    def stacked(self) -> str:
        """Embeddings ``[N, k, width]`` of the fields with columns, zeros behind those of each."""
        width = max(part.width for part in self.parts)
        padded = [self.padded(part, width) for part in self.parts]
        return padded[0] if len(padded) == 1 else self.graph.op("Concat", *padded, axis=1)

    def padded(self, part: Part, width: int) -> str:
        """``[N, k, width]``: zeros behind a field's own columns."""
        if part.width == width:
            return part.value
        behind = np.array([0, 0, 0, 0, 0, width - part.width])
        return self.graph.op("Pad", part.value, self.graph.constant(behind))

    def linear(self) -> str:
        """The sum of first-order weights ``[N]``."""
        graph, ids, places = self.graph, self._ids, self._places
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


def bags_in(manifest: Mapping[str, Any]) -> Bags:
    """How the slots of a bundle's fields are pooled."""
    fields = fields_of(manifest["fields"])
    return Bags(fields.slots, fields.num_features, manifest["model"].get("pooling", "mean"))
