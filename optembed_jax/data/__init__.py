"""Data sets: from raw files to batches of ids.

`prepare` turns raw files into a folder of ArrayRecord shards, a vocabulary and a manifest, once;
`Reader` gives shuffled batches of it; `PreparedData.encode` encodes new rows. docs/data.md
describes the data sets, their options and the prepared form.

Offers the prepared form with its vocabulary and encoder, and the reader; ``raw``, ``formats`` and
``preparing`` lie below.
May import: ``errors``, ``lazy_names``, ``fields``, ``values``, ``storage``, ``data.raw``,
``data.formats``, ``data.preparing``.
"""

from typing import TYPE_CHECKING, Any

from optembed_jax.lazy_names import asked_for

if TYPE_CHECKING:
    from optembed_jax.data.catalog import changed_file, prepare
    from optembed_jax.data.formats.registry import DATASETS
    from optembed_jax.data.loading import load
    from optembed_jax.data.options import DataOptions
    from optembed_jax.data.prefetch import prefetch_to_device
    from optembed_jax.data.prepared import PreparedData
    from optembed_jax.data.preparing.engines import EngineOptions
    from optembed_jax.data.progress import Progress
    from optembed_jax.data.reader import Batch, Reader
    from optembed_jax.data.row_source import BlockSource, RowSource
    from optembed_jax.data.vocabulary import FieldVocabulary, RawValue, Vocabulary

_HOMES = {
    "DATASETS": "formats.registry",
    "Batch": "reader",
    "BlockSource": "row_source",
    "DataOptions": "options",
    "EngineOptions": "preparing.engines",
    "FieldVocabulary": "vocabulary",
    "PreparedData": "prepared",
    "Progress": "progress",
    "RawValue": "vocabulary",
    "Reader": "reader",
    "RowSource": "row_source",
    "Vocabulary": "vocabulary",
    "changed_file": "catalog",
    "load": "loading",
    "prefetch_to_device": "prefetch",
    "prepare": "catalog",
}

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


if not TYPE_CHECKING:  # To a type checker every name would be there.

    def __getattr__(name: str) -> Any:
        """A public name, or a module below, imported where it is not there yet: a server of
        bundles reads no prepared data, and whoever prepares them needs no JAX.
        """
        return asked_for(__name__, _HOMES, name)

    def __dir__() -> list[str]:
        """What there is, imported or not."""
        return sorted({*globals(), *__all__})
