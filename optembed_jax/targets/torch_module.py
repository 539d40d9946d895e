# Copyright 2026 The OptEmbed-JAX Authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""A compact click-through-rate model in plain PyTorch.

    from model import load
    model = load(".")           # the folder of this file
    model.predict(ids)          # probabilities [N] of ids int64 [N, S]

There is a slot for each field, and several for one whose cells hold several values: these fill the
first of them, in the others stands the number of all ids, which is no value.

It needs torch and safetensors. The file is complete in itself: change it as you like.
"""

import itertools
import json
import pathlib
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


class CompactModel(nn.Module):
    """Ids to logits. Rows stay in the bits that they are stored in, and are read as float32.

    Attributes:
      fields: of each field its ``name``, ``ids``, ``rows``, ``dim``.
    """

    offsets: Tensor
    ends: Tensor
    starts: Tensor
    is_cell: Tensor

    def __init__(self, description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.fields = description["fields"]
        self.kind = description["model"]
        self.layers = description["mlp_layers"]
        self.cross_layers = description["cross_layers"]
        self.attention_layers = description["attention_layers"]
        self.attention_heads = description["attention_heads"]
        self.linear_by_id = description["linear_by_id"]
        self.is_mean = description["pooling"] == "mean"
        self.slots = [field.get("slots", 1) for field in self.fields]
        self.names = dict.fromkeys(tensors)
        for name, tensor in tensors.items():
            self.register_buffer(_buffer(name), tensor)
        sizes, rows = ([field[n] for field in self.fields] for n in ("ids", "rows"))
        self.features = sum(sizes)
        slots = torch.tensor(self.slots)
        first = torch.tensor([0, *itertools.accumulate(sizes)])
        self.register_buffer("offsets", first[:-1].repeat_interleave(slots))
        self.register_buffer("ends", first[1:].repeat_interleave(slots))
        starts = torch.tensor([0, *itertools.accumulate(rows)])[:-1]
        self.register_buffer("starts", starts.repeat_interleave(slots))
        self.register_buffer("is_cell", (slots > 1).repeat_interleave(slots))

    def get(self, name: str) -> Tensor:
        """A stored tensor by its name in the file."""
        return self.get_buffer(_buffer(name))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits float32 ``[N]`` of ids int64 ``[N, S]``, each in its field's block."""
        empty = (ids == self.features) & self.is_cell
        local = torch.where(empty, 0, ids - self.offsets).split(self.slots, dim=1)
        places = [self.place(own, number) for number, own in enumerate(local)]
        counted = self.counted(empty)
        rows = [
            self.rows(place, weight, number)
            for number, (place, weight) in enumerate(zip(places, counted, strict=True))
            if self.fields[number]["dim"]
        ]
        flat = torch.cat([ids.new_zeros((ids.shape[0], 0), dtype=torch.float32), *rows], dim=1)
        linear = self.linear(torch.where(empty, 0, ids), places, counted)
        if self.kind == "fm":
            return self.get("network/bias") + linear + pairs(rows, flat)
        if self.kind == "fnn":
            return self.logit(self.mlp(flat))
        if self.kind == "deepfm":
            return self.logit(self.mlp(flat)) + linear + pairs(rows, flat)
        if self.kind == "ipnn":
            return self.logit(self.mlp(torch.cat([flat, products(rows, flat)], dim=1)))
        if self.kind == "autoint":
            return self.attended(rows, flat)
        if self.kind == "dlrm":
            return self.logit(self.mlp(products(rows, flat)))
        if self.kind == "finalmlp":
            first, second = (self.mlp(flat, f"stream_{n}/") for n in range(2))
            fused = ((first @ self.kernel("fusion")) * second).sum(dim=1)
            return self.logit(torch.cat([first, second], dim=1)) + fused
        if self.kind not in ("dcn", "dcnv2"):
            raise ValueError(f"model {self.kind!r} is not written in this file")
        cross = self.cross(flat) if self.kind == "dcn" else self.cross_matrices(flat)
        return self.logit(torch.cat([cross, self.mlp(flat)], dim=1))

    @torch.no_grad()
    def predict(self, ids: Tensor) -> Tensor:
        """Click probabilities float32 ``[N]`` of ids int64 ``[N, S]``, which are checked."""
        self.check(ids)
        return torch.sigmoid(self(ids))

    def check(self, ids: Tensor) -> None:
        """Raises a ValueError where an id is none of its field's."""
        if ids.dim() != 2 or ids.shape[1] != sum(self.slots):
            raise ValueError(f"ids have shape {tuple(ids.shape)}, expected [N, {sum(self.slots)}]")
        if ids.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"ids are {ids.dtype}, expected int64")
        wrong = (ids < self.offsets) | (ids >= self.ends)
        wrong = wrong & ~((ids == self.features) & self.is_cell)
        if bool(wrong.any()):
            row, slot = wrong.nonzero()[0].tolist()
            of_slot = [
                f["name"] for f, n in zip(self.fields, self.slots, strict=True) for _ in range(n)
            ]
            raise ValueError(
                f"row {row}: id {int(ids[row, slot])} is not one of field {of_slot[slot]!r}"
            )

    def counted(self, empty: Tensor) -> tuple[Tensor, ...]:
        """What each slot of each field counts, ``[N, slots]``: nothing without a value."""
        found = []
        for own in empty.split(self.slots, dim=1):
            weight = (~own).float()
            if self.is_mean:
                weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1.0)
            found.append(weight)
        return tuple(found)

    def place(self, local: Tensor, field: int) -> Tensor:
        """Where each id's row is among those of its field, ``[N, slots]``."""
        name = f"remap/{field}"
        if name not in self.names:
            return local
        return self.get(name).index_select(0, local.reshape(-1)).long().reshape(local.shape)

    def rows(self, place: Tensor, weight: Tensor, field: int) -> Tensor:
        """Embeddings float32 ``[N, dim]``: of a cell the mean or the sum."""
        at = place.reshape(-1)
        read = self.get(f"rows/{field}").index_select(0, at).float()
        name = f"scale/{field}"
        if name in self.names:
            scale = self.get(name)
            of_rows = scale.index_select(0, at) if scale.shape[0] > 1 else scale
            read = read * of_rows.float()[:, None]
        if self.slots[field] == 1:
            return read
        return (read.reshape(*place.shape, read.shape[1]) * weight[:, :, None]).sum(dim=1)

    def linear(self, ids: Tensor, places: list[Tensor], counted: tuple[Tensor, ...]) -> Tensor:
        """The sum of first-order weights, ``[N]``; zero of a model without."""
        if "linear" not in self.names:
            return ids.new_zeros(ids.shape[0], dtype=torch.float32)
        at = ids if self.linear_by_id else torch.cat(places, dim=1) + self.starts
        weights = self.get("linear")[at].float()
        if "linear_scale" in self.names:
            scale = self.get("linear_scale").float()
            slots = torch.tensor(self.slots, device=scale.device)
            weights = weights * scale.repeat_interleave(slots, output_size=ids.shape[1])
        return (weights * torch.cat(counted, dim=1)).sum(dim=1)

    def mlp(self, x: Tensor, within: str = "") -> Tensor:
        """The hidden layers."""
        for layer in range(self.layers):
            x = torch.relu(self.dense(x, f"{within}mlp/Dense_{layer}"))
        return x

    def attended(self, rows: list[Tensor], flat: Tensor) -> Tensor:
        """AutoInt's interacting layers and, beside them, its perceptron: logits ``[N]``.

        Fields without columns are one vector of zeros, which counts as often as there are such.
        """
        x = stacked(rows) if rows else flat[:, None, :][:, :0]
        kept, idle = x.shape[1], len(self.fields) - x.shape[1]
        if idle:
            x = nn.functional.pad(x, (0, 0, 0, 1))
        often = torch.ones(x.shape[1], device=x.device)
        often[kept:] = idle
        for layer in range(self.attention_layers):
            x = self.interact(x, f"attention_{layer}", often.log())
        found = self.logit(
            torch.cat([x[:, :kept].flatten(1), *([self.mlp(flat)] if self.layers else [])], dim=1)
        )
        return found + (x[:, -1] @ self.kernel("idle_fields"))[:, 0] if idle else found

    def interact(self, x: Tensor, layer: str, log_often: Tensor) -> Tensor:
        """An interacting layer: heads of self-attention side by side, and the residual."""
        heads = []
        for head in range(self.attention_heads):
            query, key, value = (
                x @ self.kernel(f"{layer}/{part}_{head}") for part in ("query", "key", "value")
            )
            scores = query @ key.transpose(1, 2) + log_often
            heads.append(torch.softmax(scores, dim=2) @ value)
        return torch.relu(torch.cat(heads, dim=2) + x @ self.kernel(f"{layer}/residual"))

    def kernel(self, name: str) -> Tensor:
        """A layer's kernel."""
        return self.get(f"network/{name}/kernel")

    def cross(self, x0: Tensor) -> Tensor:
        """DCN's cross layers."""
        weights, biases = self.get("network/cross_weight"), self.get("network/cross_bias")
        x = x0
        for layer in range(self.cross_layers):
            step = (x @ weights[layer])[:, None]
            if "network/cross_offset" in self.names:
                step = step + self.get("network/cross_offset")[layer]
            x = x0 * step + biases[layer] + x
        return x

    def cross_matrices(self, x0: Tensor) -> Tensor:
        """DCN-V2's cross layers."""
        x = x0
        for layer in range(self.cross_layers):
            x = x0 * self.dense(x, f"cross_{layer}") + x
        return x

    def logit(self, x: Tensor) -> Tensor:
        """The last layer, ``[N]``."""
        return self.dense(x, "logit/Dense_0")[:, 0]

    def dense(self, x: Tensor, name: str) -> Tensor:
        """A layer without activation."""
        return x @ self.get(f"network/{name}/kernel") + self.get(f"network/{name}/bias")


def _buffer(name: str) -> str:
    """What a stored tensor is called in the module, whose names have no slashes."""
    return "stored_" + name.replace("/", "_")


def pairs(rows: list[Tensor], flat: Tensor) -> Tensor:
    """FM's second order, ``[N]``: half of the sum's square less the squares' sum."""
    squares = (flat * flat).sum(dim=1)
    if not rows:
        return squares
    total = stacked(rows).sum(dim=1)
    return 0.5 * ((total * total).sum(dim=1) - squares)


def products(rows: list[Tensor], flat: Tensor) -> Tensor:
    """Inner products of all pairs of fields, ``[N, pairs]``."""
    if len(rows) < 2:
        return flat[:, :0]
    dense = stacked(rows)
    first, second = torch.triu_indices(len(rows), len(rows), offset=1)
    return (dense @ dense.transpose(1, 2))[:, first, second]


def stacked(rows: list[Tensor]) -> Tensor:
    """Embeddings ``[N, fields, width]``, zeros behind a field's own columns."""
    width = max(value.shape[1] for value in rows)
    padded = [nn.functional.pad(value, (0, width - value.shape[1])) for value in rows]
    return torch.stack(padded, dim=1)


def load(folder: str | pathlib.Path = ".") -> CompactModel:
    """The model of a folder."""
    place = pathlib.Path(folder)
    description = json.loads((place / "model.json").read_text(encoding="utf-8"))
    return CompactModel(description, load_file(place / "weights.safetensors")).eval()


def fbgemm_tables(folder: str | pathlib.Path = ".", device: str = "cpu") -> Any:
    """The same rows as one ``IntNBitTableBatchedEmbeddingBagsCodegen`` of fbgemm-gpu.

    A table for each field that has columns, in the order of ``model.json``'s ``fbgemm``, each of
    one feature; it takes ids less their field's first one, of a cell as many as it has values.
    Columns behind ``dim`` are zeros.
    """
    from fbgemm_gpu.split_embedding_configs import SparseType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import (
        EmbeddingLocation,
        PoolingMode,
    )
    from fbgemm_gpu.split_table_batched_embeddings_ops_inference import (
        IntNBitTableBatchedEmbeddingBagsCodegen,
    )

    place = pathlib.Path(folder)
    description = json.loads((place / "model.json").read_text(encoding="utf-8"))
    tables = description["fbgemm"]
    tensors = load_file(place / "fbgemm.safetensors", device=device)
    # Of one value the mean is the sum, for which FBGEMM's CPU kernels take a third of the time.
    has_cells = any(field.get("slots", 1) > 1 for field in description["fields"])
    pooling = description["pooling"].upper() if has_cells else "SUM"
    location = EmbeddingLocation.HOST if device == "cpu" else EmbeddingLocation.DEVICE
    alignment = 1 if device == "cpu" else 16
    weights, remaps = [], []
    for table in tables:
        rows = tensors[f"weights/{table['field']}"]
        rows = nn.functional.pad(rows, (0, -rows.shape[1] % alignment))
        head = 4 if table["type"].startswith("INT") else 0  # bytes of a row's scale and bias
        weights.append((rows[:, head:], rows[:, :head] if head else None))
        remaps.append(tensors.get(f"index_remapping/{table['field']}"))
    return IntNBitTableBatchedEmbeddingBagsCodegen(
        [
            (table["name"], table["rows"], table["padded_dim"], SparseType[table["type"]], location)
            for table in tables
        ],
        index_remapping=remaps if any(remap is not None for remap in remaps) else None,
        pooling_mode=PoolingMode[pooling],
        device=device,
        weight_lists=weights,
        output_dtype=SparseType.FP32,
        row_alignment=alignment,
    )
