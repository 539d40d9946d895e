"""A bundle as a folder that plain PyTorch loads, with tables in FBGEMM's form beside it.

::

    model.py             the model, readable and complete in itself, under Apache-2.0
    model.json           what it is: model, fields, FBGEMM's tables
    weights.safetensors  rows in the bits of the bundle, network in float32
    fbgemm.safetensors   the rows again, as torchrec's servers take them
    README.md            how to use it
"""

import importlib.util
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
import torch

from optembed_jax.errors import InputError
from optembed_jax.serving.bundle import Bundle
from optembed_jax.serving.bundle_content import Content, read_content
from optembed_jax.serving.stored_rows import numbers, stored_rows
from optembed_jax.storage.whole_folder import replaced
from optembed_jax.targets import torch_module
from optembed_jax.targets.fbgemm_tables import NBitTable, decoded, nbit_table
from optembed_jax.targets.probes import ROWS, check_equal, probe_ids

MODULE, DESCRIPTION, CARD = "model.py", "model.json", "README.md"
WEIGHTS, FBGEMM = "weights.safetensors", "fbgemm.safetensors"


def write(bundle: Bundle, path: pathlib.Path, takes_ids: bool) -> str:
    """Write a bundle as a folder for PyTorch, after loading it there and comparing its logits.

    Args:
      bundle: loaded from a folder.
      path: of the folder; one that was written here before is replaced, anything else refused.
      takes_ids: without effect: it takes the bundle's ids in any case.

    Returns:
      A line about what was written.

    Raises:
      InputError: something else is at the path, it cannot be written, or gives other logits.
    """
    del takes_ids
    _check_replaceable(path)
    content = read_content(bundle.path)
    rows = stored_rows(content)
    tables = {
        number: nbit_table(rows, number, field["storage"])
        for number, field in enumerate(content.manifest["fields"])
        if field["dim"]
    }
    files = {
        MODULE: pathlib.Path(torch_module.__file__).read_bytes(),
        DESCRIPTION: _json(described(content, tables)),
        WEIGHTS: safetensors.numpy.save(weights_of(bundle, rows)),
        FBGEMM: safetensors.numpy.save(_fbgemm_tensors(content, tables)),
        CARD: _card(content).encode(),
    }
    with replaced(path) as folder:
        for name, written in files.items():
            (folder / name).write_bytes(written)
        tried = check(bundle, folder, rows, tables)
    size = sum(len(written) for written in files.values())
    return f"{size:,} bytes; FBGEMM tables {tried}"


def _check_replaceable(path: pathlib.Path) -> None:
    """Refuses to write where something else would be lost."""
    if not path.exists():
        return
    files = (DESCRIPTION, MODULE, CARD, WEIGHTS, FBGEMM)
    for name in files:
        if not (path / name).is_file():
            raise InputError(f"{path} exists and has no {name}; choose another --output")
    # Python makes a cache where the module is used.
    other = sorted({file.name for file in path.iterdir()} - {*files, "__pycache__"})
    if other:
        raise InputError(
            f"{path} has more in it than was written here, such as {other[0]!r}, which would be "
            "lost; move that elsewhere, or choose another --output"
        )


def weights_of(bundle: Bundle, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of the module: of each field what ``stored_rows`` gave, all else as served."""
    served = {name: np.asarray(array) for name, array in bundle.weights.items()}
    others = {n: a for n, a in served.items() if not n.startswith(("rows/", "scale/"))}
    for name, array in others.items():
        if array.dtype == np.uint16:  # PyTorch reads hardly anything by such numbers.
            others[name] = array.astype(np.int32)
    return {name: np.asarray(array, order="C") for name, array in {**rows, **others}.items()}


def described(content: Content, tables: Mapping[int, NBitTable]) -> dict[str, Any]:
    """The content of ``model.json``."""
    manifest = content.manifest
    network = [name for name in content.tensors if name.startswith("network/")]
    matrices = sum(n.startswith("network/cross_") and n.endswith("/kernel") for n in network)
    vectors = content.tensors.get("network/cross_weight")
    attention = [name for name in network if name.startswith("network/attention_")]
    return {
        "model": manifest["model"]["model"],
        "mlp_layers": len(manifest["model"]["mlp_dims"]),
        "cross_layers": matrices if vectors is None else len(vectors),
        "attention_layers": sum(name.endswith("/residual/kernel") for name in attention),
        "attention_heads": sum(
            name.startswith("network/attention_0/query_") and name.endswith("/kernel")
            for name in attention
        ),
        "linear_by_id": manifest["linear_by_id"],
        "pooling": manifest["model"].get("pooling", "mean"),
        "fields": manifest["fields"],
        "fbgemm": [
            {
                "name": manifest["fields"][number]["name"],
                "field": number,
                "rows": len(table.weights),
                "dim": manifest["fields"][number]["dim"],
                "padded_dim": table.dim,
                "type": table.kind,
            }
            for number, table in tables.items()
        ],
    }


def check(
    bundle: Bundle,
    folder: pathlib.Path,
    rows: Mapping[str, np.ndarray],
    tables: Mapping[int, NBitTable],
) -> str:
    """Load the folder in PyTorch and compare logits, and what FBGEMM reads.

    Returns:
      Whether FBGEMM itself was there to read the tables.

    Raises:
      InputError: a logit or a row differs.
    """
    module = imported(folder / MODULE)
    model = module.load(folder)
    ids = probe_ids(bundle.fields)
    expected = bundle.logits(ids)
    for count in (1, 7, len(ids)):
        part = torch.from_numpy(ids[:count].astype(np.int64))
        with torch.no_grad():
            check_equal(model(part).numpy(), expected[:count], "PyTorch")
    for field, table in tables.items():
        stored = numbers(rows, field)
        if not np.array_equal(decoded(table)[:, : stored.shape[1]], stored):
            raise InputError(f"the table of field {field} in FBGEMM's form has other rows")
    if importlib.util.find_spec("fbgemm_gpu") is None:
        return "not tried: fbgemm-gpu is not installed"
    if tables:
        _check_fbgemm(bundle, module.fbgemm_tables(folder), rows, tables)
    return "tried in fbgemm-gpu"


def _check_fbgemm(
    bundle: Bundle,
    lookup: Any,
    rows: Mapping[str, np.ndarray],
    tables: Mapping[int, NBitTable],
) -> None:
    """One value of each field at a time, which pooling leaves as it is."""
    sizes = np.array([bundle.fields.sizes[field] for field in tables])
    local = np.random.default_rng(0).integers(0, sizes, (ROWS, len(sizes))).T
    offsets = torch.arange(local.size + 1, dtype=torch.int32)
    found = lookup(torch.from_numpy(local.reshape(-1).astype(np.int32)), offsets).numpy()
    begin = 0
    for place, (field, table) in enumerate(tables.items()):
        own = numbers(rows, field)
        remap = bundle.weights.get(f"remap/{field}")
        at = local[place] if remap is None else np.asarray(remap)[local[place]]
        if not np.array_equal(found[:, begin : begin + own.shape[1]], own[at]):
            raise InputError(f"FBGEMM reads other rows of field {field} than the bundle")
        begin += table.dim


def imported(file: pathlib.Path) -> Any:
    """The module that was written, as its users import it."""
    spec = importlib.util.spec_from_file_location("optembed_written_model", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _fbgemm_tensors(content: Content, tables: Mapping[int, NBitTable]) -> dict[str, np.ndarray]:
    found = {f"weights/{number}": table.weights for number, table in tables.items()}
    for number in tables:
        remap = content.tensors.get(f"remap/{number}")
        if remap is not None:
            found[f"index_remapping/{number}"] = remap.astype(np.int32)
    return found


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _card(content: Content) -> str:
    model = content.manifest["model"]["model"]
    return f"""# {model} for PyTorch

```python
from model import load

model = load(".")
model.predict(ids)  # probabilities [N] of ids int64 [N, S], each in its field's block
```

`model.json` has the fields: an id is the place of a value among its field's, and the `ids` of all
fields before it. Raw columns become ids by the bundle that this was written from:
`optembed_jax.numpy_bundle.NumpyBundle.load("OUT").encode(columns)`.

`torch.export.export(model, (ids,), dynamic_shapes=({{0: torch.export.Dim("batch")}},))` makes a
program of it.

`fbgemm.safetensors` has the same rows for `IntNBitTableBatchedEmbeddingBagsCodegen`;
`model.fbgemm_tables(".")` makes one.
"""
