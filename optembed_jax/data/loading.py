"""A prepared folder, loaded: its files verified, its manifest made a `PreparedData`."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from optembed_jax.data import vocabulary
from optembed_jax.data.formats.registry import DATASETS
from optembed_jax.data.manifest import (
    VOCABULARY,
    Shard,
    WeightSums,
    read_manifest,
    sources_of,
    verify_files,
)
from optembed_jax.data.prepared import PreparedData
from optembed_jax.data.splits import SPLITS
from optembed_jax.fields import Fields
from optembed_jax.values.rule import Rule


def load(path: str | os.PathLike[str]) -> PreparedData:
    """Loads a prepared folder after comparing every file that is read here with its checksum.

    The two files of tensorflow-datasets' own, which it alone reads, are not looked at.

    Raises:
      InputError: there is no prepared data set, or a file of it is missing, cut off or changed;
        the message names the file.
    """
    return read_folder(pathlib.Path(path).expanduser(), verify=True)


def read_folder(folder: pathlib.Path, verify: bool) -> PreparedData:
    """Loads a prepared folder, of which only the manifest is compared unless the rest is verified.

    Raises:
      InputError: as of `load`.
    """
    manifest = read_manifest(folder)
    shards = {
        split: tuple(Shard(**shard) for shard in found)
        for split, found in manifest["shards"].items()
    }
    files = [(file["file"], file["size"], file["sha256"]) for file in manifest["files"]]
    files += [(s.file, s.size, s.sha256) for found in shards.values() for s in found]
    if verify:
        verify_files(folder, files)
    fields = manifest["fields"]
    return PreparedData(
        name=manifest["name"],
        path=folder,
        fields=Fields(
            tuple(f["name"] for f in fields),
            tuple(f["rows"] for f in fields),
            tuple(f.get("slots", 1) for f in fields),
            tuple(f.get("weighted", False) for f in fields),
        ),
        counts=vocabulary.read_counts(folder / VOCABULARY),
        num_rows={split: manifest["num_rows"][split] for split in SPLITS},
        label_rate={split: manifest["label_rate"][split] for split in SPLITS},
        unseen=manifest["unseen"],
        options=manifest["options"],
        facts=manifest["facts"],
        rejected=manifest["rejected"],
        cut={f["name"]: f["cut"] for f in fields if f.get("cut")},
        sources=sources_of(manifest),
        shards=shards,
        fingerprint=manifest["fingerprint"],
        columns=DATASETS[manifest["name"]].columns_of(manifest["options"], manifest["facts"]),
        _edges={f["name"]: np.array(f["edges"], np.float64) for f in fields if "edges" in f},
        _rules={f["name"]: Rule(**f["rule"]) for f in fields if "rule" in f},
        weights=_weights(manifest),
        weightless=manifest.get("weightless", 0),
        negative_share=_negative_share(manifest),
    )


def _weights(manifest: Mapping[str, Any]) -> dict[str, WeightSums] | None:
    if "weights" not in manifest:
        return None
    return {
        split: WeightSums(tuple(found["sum"]), tuple(found["squares"]))
        for split, found in manifest["weights"].items()
    }


def _negative_share(manifest: Mapping[str, Any]) -> float:
    if "negatives" not in manifest:
        return 1.0
    return float(manifest["negatives"]["drawn"] / manifest["negatives"]["all"])
