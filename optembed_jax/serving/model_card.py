"""The model card of a bundle: what a person should know before using it, from its manifest."""

from collections.abc import Mapping, Sequence
from typing import Any

from optembed_jax.serving.bundle_manifest import COMPOSITION, tables_of
from optembed_jax.table import packing
from optembed_jax.table.elements import ELEMENTS

_COMPOSED = (
    "Rows are shared: each value reads one of them, or a product of two, as its id says; the rows "
    "of a field, below, are those that its values read."
)
_RARE = " Rare values were pruned first, so rows about them are scored from the other fields."
_MODES = {
    "all": "rows and dimensions pruned (OptEmbed)",
    "feature": "rows pruned (OptEmbed-E)",
    "embed": "dimensions pruned (OptEmbed-D)",
    "none": "nothing pruned (the base model)",
}
_OTHER_METHODS = {
    "all": "rows and dimensions pruned",
    "feature": "rows pruned",
    "embed": "dimensions chosen",
    "none": "nothing pruned",
}
"""Of what is no table of OptEmbed: its flags say whose it is."""


def render(manifest: Mapping[str, Any]) -> str:
    """Markdown of a manifest; see docs/serving.md for its keys."""
    model, size = manifest["model"], manifest["bytes"]
    dataset = manifest["dataset"].get("name", "an unnamed data set")
    rows = sum(rows for rows, _ in tables_of(manifest))
    storages = ", ".join(sorted({field["storage"] for field in manifest["fields"]}))
    lines = [
        f"# {model['model']} on {dataset}",
        "",
        f"A click-through-rate model with a compact embedding table: {_how(manifest)}.",
        f"It has {rows:,} rows of a table of {manifest['full_rows']:,}. They take "
        f"{size['rows']:,} bytes ({storages}), against {size['full_table']:,} of the full table in "
        "float32; "
        f"linear weights {size['linear']:,}, positions {size['remap']:,}, network "
        f"{size['network']:,}.",
        "",
        "## Use",
        "",
        "```python",
        "from optembed_jax.serving.bundle import Bundle",
        "",
        'probabilities = Bundle.load("this folder").predict(rows)  # ids [N, F] or raw columns',
        "```",
        "",
        _COMPOSED
        if COMPOSITION in manifest
        else "A value without a row (never seen, too rare, or pruned) reads its field's first one.",
        *_cells(manifest),
        "",
        "## Quality",
        "",
        *_table(["metric", "value"], [[k, f"{v}"] for k, v in manifest["metrics"].items()]),
        "",
        "## Fields",
        "",
        *_fields(manifest["fields"], manifest.get("worth", {})),
        "",
        "## Limits",
        "",
        "The probabilities are those of the training data's time and place; the metrics were "
        f"measured once, on one split.{_RARE if model['mode'] in ('all', 'feature') else ''}",
        "",
        "Checksums: `sha256sum -c SHA256SUMS`. Versions and flags are in manifest.json.",
    ]
    return "\n".join(lines) + "\n"


def _how(manifest: Mapping[str, Any]) -> str:
    """How the table is smaller than the full one, and by which method where it is not OptEmbed."""
    method, mode = manifest.get("flags", {}).get("method", "optembed"), manifest["model"]["mode"]
    if COMPOSITION in manifest:
        what = "values share rows"
    elif any(field["storage"] == ELEMENTS for field in manifest["fields"]):
        what = "single numbers pruned"
    elif method == "optembed":
        return _MODES[mode]
    else:
        what = _OTHER_METHODS[mode]
    return what if method == "optembed" else f"{what} (the method {method})"


def _cells(manifest: Mapping[str, Any]) -> list[str]:
    several = [f"`{f['name']}` (up to {f['slots']})" for f in manifest["fields"] if "slots" in f]
    if not several:
        return []
    pooling = manifest["model"]["pooling"]
    return [
        f"Cells of {', '.join(several)} hold several values, of which the model reads the "
        f"{pooling}: give a list, or a text with the separator of the training data."
    ]


def _fields(fields: Sequence[Mapping[str, Any]], worth: Mapping[str, Any]) -> list[str]:
    """What each field costs and, where that was measured, what it is worth."""
    lines = [
        [f["name"], f"{f['rows']:,}", str(f["dim"]), f["storage"], f"{_bytes(f):,}"] for f in fields
    ]
    header = ["field", "rows", "dimension", "storage", "bytes"]
    if not worth:
        return _table(header, lines)
    header += ["worth: AUC", "logloss", "unseen"]
    for number, line in enumerate(lines):
        auc, logloss, unseen = (worth[name][number] for name in ("auc", "logloss", "unseen"))
        line += ["-" if auc is None else f"{auc:+.4f}", f"{logloss:+.5f}", f"{100 * unseen:.1f} %"]
    told = (
        "A field is worth what the validation AUC loses, and the logloss gains, when its values "
        "are dealt to other rows; fields that tell the same are each worth little. Unseen are the "
        "validation rows whose value training never saw, or too rarely."
    )
    if "saliency" in worth:
        header.append("saliency")
        for share, line in zip(worth["saliency"], lines, strict=True):
            line.append(f"{100 * share:.1f} %")
        told += " Saliency is the field's share of what rows were chosen by."
    return [*_table(header, lines), "", told]


def _bytes(field: Mapping[str, Any]) -> int:
    """Of a field's rows as they are stored, with their scales."""
    storage, rows, dim = field["storage"], field["rows"], field["dim"]
    bits = packing.bits_of(storage)
    if storage == ELEMENTS:
        return int(4 * field["numbers"] + rows * -(-dim // 8))
    if bits is None:
        return int(rows * dim * (4 if storage == "float32" else 2))
    scales = 1 if packing.is_by_field(storage) else rows
    return int(rows * packing.packed_bytes(dim, bits) + 2 * scales)


def _table(header: list[str], lines: list[list[str]]) -> list[str]:
    if not lines:
        return ["None were recorded."]
    rows = [header, ["---"] * len(header), *lines]
    cells = [[cell.replace("\n", " ").replace("|", "\\|") for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in cells]
