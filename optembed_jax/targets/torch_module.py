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
    model.predict(ids)          # probabilities [N] of ids int64 [N, F]

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

    def __init__(self, description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.fields = description["fields"]
        self.kind = description["model"]
        self.layers = description["mlp_layers"]
        self.cross_layers = description["cross_layers"]
        self.linear_by_id = description["linear_by_id"]
        self.names = dict.fromkeys(tensors)
        for name, tensor in tensors.items():
            self.register_buffer(_buffer(name), tensor)
        sizes, rows = ([field[n] for field in self.fields] for n in ("ids", "rows"))
        offsets = torch.tensor([0, *itertools.accumulate(sizes)])
        self.register_buffer("offsets", offsets[:-1])
        self.register_buffer("ends", offsets[1:])
        starts = torch.tensor([0, *itertools.accumulate(rows)])
        self.register_buffer("starts", starts[:-1])

    def get(self, name: str) -> Tensor:
        """A stored tensor by its name in the file."""
        return self.get_buffer(_buffer(name))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits float32 ``[N]`` of ids int64 ``[N, F]``, each in its field's block."""
        local = ids - self.offsets
        places = [self.place(local[:, number], number) for number in range(len(self.fields))]
        rows = [self.rows(place, n) for n, place in enumerate(places) if self.fields[n]["dim"]]
        flat = torch.cat([ids.new_zeros((ids.shape[0], 0), dtype=torch.float32), *rows], dim=1)
        if self.kind == "fm":
            return self.get("network/bias") + self.linear(ids, places) + pairs(rows, flat)
        if self.kind == "fnn":
            return self.logit(self.mlp(flat))
        if self.kind == "deepfm":
            return self.logit(self.mlp(flat)) + self.linear(ids, places) + pairs(rows, flat)
        if self.kind == "ipnn":
            return self.logit(self.mlp(torch.cat([flat, products(rows, flat)], dim=1)))
        cross = self.cross(flat) if self.kind == "dcn" else self.cross_matrices(flat)
        return self.logit(torch.cat([cross, self.mlp(flat)], dim=1))

    @torch.no_grad()
    def predict(self, ids: Tensor) -> Tensor:
        """Click probabilities float32 ``[N]`` of ids int64 ``[N, F]``, which are checked."""
        self.check(ids)
        return torch.sigmoid(self(ids))

    def check(self, ids: Tensor) -> None:
        """Raises a ValueError where an id is none of its field's."""
        if ids.dim() != 2 or ids.shape[1] != len(self.fields):
            raise ValueError(f"ids have shape {tuple(ids.shape)}, expected [N, {len(self.fields)}]")
        if ids.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"ids are {ids.dtype}, expected int64")
        wrong = (ids < self.offsets) | (ids >= self.ends)
        if bool(wrong.any()):
            row, field = wrong.nonzero()[0].tolist()
            name = self.fields[field]["name"]
            raise ValueError(f"row {row}: id {int(ids[row, field])} is not one of field {name!r}")

    def place(self, local: Tensor, field: int) -> Tensor:
        """Where each id's row is among those of its field, ``[N]``."""
        name = f"remap/{field}"
        return self.get(name).index_select(0, local).long() if name in self.names else local

    def rows(self, place: Tensor, field: int) -> Tensor:
        """Embeddings float32 ``[N, dim]``."""
        read = self.get(f"rows/{field}").index_select(0, place).float()
        name = f"scale/{field}"
        if name not in self.names:
            return read
        scale = self.get(name)
        of_rows = scale.index_select(0, place) if scale.shape[0] > 1 else scale
        return read * of_rows.float()[:, None]

    def linear(self, ids: Tensor, places: list[Tensor]) -> Tensor:
        """The sum of first-order weights, ``[N]``."""
        at = ids if self.linear_by_id else torch.stack(places, dim=1) + self.starts
        weights = self.get("linear")[at].float()
        if "linear_scale" in self.names:
            weights = weights * self.get("linear_scale").float()
        return weights.sum(dim=1)

    def mlp(self, x: Tensor) -> Tensor:
        """The hidden layers."""
        for layer in range(self.layers):
            x = torch.relu(self.dense(x, f"mlp/Dense_{layer}"))
        return x

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
    one feature; it takes ids less their field's first one. Columns behind ``dim`` are zeros.
    """
    from fbgemm_gpu.split_embedding_configs import SparseType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
    from fbgemm_gpu.split_table_batched_embeddings_ops_inference import (
        IntNBitTableBatchedEmbeddingBagsCodegen,
    )

    place = pathlib.Path(folder)
    tables = json.loads((place / "model.json").read_text(encoding="utf-8"))["fbgemm"]
    tensors = load_file(place / "fbgemm.safetensors", device=device)
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
        device=device,
        weight_lists=weights,
        output_dtype=SparseType.FP32,
        row_alignment=alignment,
    )
