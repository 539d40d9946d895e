"""The model card of a bundle: what a person should know before using it, from its manifest."""

from collections.abc import Mapping
from typing import Any

_MODES = {
    "all": "rows and dimensions pruned (OptEmbed)",
    "feature": "rows pruned (OptEmbed-E)",
    "embed": "dimensions pruned (OptEmbed-D)",
    "none": "nothing pruned (the base model)",
}


def render(manifest: Mapping[str, Any]) -> str:
    """Markdown of a manifest; see docs/serving.md for its keys."""
    model, size = manifest["model"], manifest["bytes"]
    dataset = manifest["dataset"].get("name", "an unnamed data set")
    rows = sum(field["rows"] for field in manifest["fields"])
    storages = ", ".join(sorted({field["storage"] for field in manifest["fields"]}))
    lines = [
        f"# {model['model']} on {dataset}",
        "",
        f"A click-through-rate model with a compact embedding table: {_MODES[model['mode']]}.",
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
        "A value without a row (never seen, too rare, or pruned) reads its field's first one.",
        *_cells(manifest),
        "",
        "## Quality",
        "",
        *_table(["metric", "value"], [[k, f"{v}"] for k, v in manifest["metrics"].items()]),
        "",
        "## Fields",
        "",
        *_table(
            ["field", "rows", "dimension", "storage"],
            [
                [f["name"], f"{f['rows']:,}", str(f["dim"]), f["storage"]]
                for f in manifest["fields"]
            ],
        ),
        "",
        "## Limits",
        "",
        "The probabilities are those of the training data's time and place; the metrics were "
        "measured once, on one split. Rare values were pruned first, so rows about them are scored "
        "from the other fields.",
        "",
        "Checksums: `sha256sum -c SHA256SUMS`. Versions and flags are in manifest.json.",
    ]
    return "\n".join(lines) + "\n"


def _cells(manifest: Mapping[str, Any]) -> list[str]:
    several = [f"`{f['name']}` (up to {f['slots']})" for f in manifest["fields"] if "slots" in f]
    if not several:
        return []
    pooling = manifest["model"]["pooling"]
    return [
        f"Cells of {', '.join(several)} hold several values, of which the model reads the "
        f"{pooling}: give a list, or a text with the separator of the training data."
    ]


def _table(header: list[str], lines: list[list[str]]) -> list[str]:
    if not lines:
        return ["None were recorded."]
    rows = [header, ["---"] * len(header), *lines]
    cells = [[cell.replace("\n", " ").replace("|", "\\|") for cell in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in cells]
