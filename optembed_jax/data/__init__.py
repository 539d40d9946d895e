"""Data sets: from raw files to batches of ids.

`prepare` turns raw files into a folder of ArrayRecord shards, a vocabulary and a manifest, once;
`Reader` gives shuffled batches of it; `PreparedData.encode` encodes new rows. docs/data.md
describes the data sets, their options and the prepared form.

Offers the prepared form with its vocabulary and encoder, and the reader; ``raw``, ``formats`` and
``preparing`` lie below.
May import: ``errors``, ``fields``, ``values``, ``storage``, ``data.raw``, ``data.formats``,
``data.preparing``.
"""

from typing import TYPE_CHECKING, Any

from optembed_jax.data.catalog import changed_file, prepare
from optembed_jax.data.formats.registry import DATASETS
from optembed_jax.data.loading import load
from optembed_jax.data.options import DataOptions
from optembed_jax.data.prepared import PreparedData
from optembed_jax.data.preparing.engines import EngineOptions
from optembed_jax.data.progress import Progress
from optembed_jax.data.reader import Batch, Reader
from optembed_jax.data.row_source import BlockSource, RowSource
from optembed_jax.data.vocabulary import FieldVocabulary, RawValue, Vocabulary

if TYPE_CHECKING:
    from optembed_jax.data.prefetch import prefetch_to_device

__all__ = [
    "DATASETS",
    "Batch",
    "BlockSource",
    "DataOptions",
    "EngineOptions",
    "FieldVocabulary",
    "PreparedData",
    "Progress",
    "RawValue",
    "Reader",
    "RowSource",
    "Vocabulary",
    "changed_file",
    "load",
    "prefetch_to_device",
    "prepare",
]


def __getattr__(name: str) -> Any:
    """What needs JAX, imported when it is asked for."""
    if name != "prefetch_to_device":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from optembed_jax.data.prefetch import prefetch_to_device

    return prefetch_to_device


def __dir__() -> list[str]:
    """What there is, imported or not."""
    return sorted({*globals(), *__all__})
