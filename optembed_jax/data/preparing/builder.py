"""The tensorflow-datasets builder of every data set here: raw files in, a prepared folder out.

tensorflow-datasets brings the folder layout (`name/config/version`), the incomplete folder that is
renamed when all is written, `dataset_info.json`, `features.json`, and random access through
`tfds.builder_from_directory(path).as_data_source("train")`. The rows are made by `pipeline.py`.
TensorFlow is not needed.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import threading
import types
from collections.abc import Mapping
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from optembed_jax.data import blocks, manifest, splits
from optembed_jax.data.formats.description import Format
from optembed_jax.data.options import DataOptions
from optembed_jax.data.preparing import pipeline, reading
from optembed_jax.data.preparing.engine import OpenEngine
from optembed_jax.data.progress import Callback
from optembed_jax.data.raw.columns import NUMERIC
from optembed_jax.data.raw.files import FileIdentity, identify
from optembed_jax.data.raw.sources import RawData
from optembed_jax.data.splits import SPLITS
from optembed_jax.errors import InputError
from optembed_jax.storage import checksum


class BlockConfig(tfds.core.BuilderConfig):
    """One way of preparing a data set: the options that it uses.

    Attributes:
      options: all options.
      used: those that the data set uses, as plain values.
      open_engine: opens the engine that does the work.
      progress: told about the progress.
    """

    def __init__(
        self,
        name: str,
        options: DataOptions,
        used: Mapping[str, Any],
        open_engine: OpenEngine,
        progress: Callback | None = None,
    ) -> None:
        super().__init__(name=name)
        self.options, self.used, self.progress = options, used, progress
        self.open_engine = open_engine


class _Manifest(tfds.core.Metadata):
    """Our own metadata, written by tensorflow-datasets before it renames the folder."""

    def save_metadata(self, data_dir: Any) -> None:
        """Writes `prepared.json`."""
        path = pathlib.Path(data_dir) / manifest.MANIFEST
        path.write_text(manifest.as_text(dict(self)), encoding="utf-8")

    def load_metadata(self, data_dir: Any) -> None:
        """Reads `prepared.json`."""
        self.update(manifest.read_manifest(pathlib.Path(data_dir)))


class _Info(tfds.core.DatasetInfo):
    def have_columns(self, num_columns: int, grouped: bool, weighted: bool) -> None:
        """How many ids a row has is known when all have been read."""
        self._features = blocks.features(num_columns, grouped, weighted)

    def initialize_from_bucket(self) -> None:
        """Does not look for the data set on the network."""


class BlockBuilder(tfds.core.dataset_builder.FileReaderBuilder):
    """A data set made of blocks of rows; the subclass of each format is made by `builder_of`.

    Subclasses are not registered with tensorflow-datasets, which has other data sets of these
    names (its `criteo` is an uplift data set).
    """

    FORMAT: ClassVar[type[Format]]
    BUILDER_CONFIGS: ClassVar[list[BlockConfig]] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**{"skip_registration": True} | kwargs)

    def _create_builder_config(self, builder_config: Any, version: Any) -> Any:
        return builder_config  # without the warning that it is none of BUILDER_CONFIGS

    def _raw(self) -> RawData:
        if not hasattr(self, "_raw_data"):
            options = self.builder_config.options
            self._raw_data = _grouped(self.FORMAT.raw_data(options), options.group)
        return self._raw_data

    def _info(self) -> tfds.core.DatasetInfo:
        return _Info(
            builder=self,
            description=self.FORMAT.DESCRIPTION,
            features=blocks.features(
                len(self._raw().columns),
                self._raw().group is not None,
                self._raw().weight is not None,
            ),
            homepage=self.FORMAT.HOMEPAGE,
            citation=self.FORMAT.CITATION,
            license=self.FORMAT.LICENSE,
            metadata=_Manifest(),
            disable_shuffling=True,  # the rows are shuffled already
        )

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        config, data = self.builder_config, self._raw()
        folder = pathlib.Path(self.data_dir)
        templates = {split: self._get_filename_template(split) for split in SPLITS}

        def shard_name(split: str, number: int, count: int) -> str:
            path = templates[split].sharded_filepath(shard_index=number, num_shards=count)
            return os.path.basename(path)

        files = [*data.source.files, *data.beside]
        if config.options.split_index is not None:
            files += splits.split_index_files(config.options.split_index)
        before = [file.path.stat() for file in files]
        failed = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(1) as beside:
            found_files = beside.map(lambda f: identify(f, failed.is_set), files)
            try:
                built = pipeline.build(
                    data, config.options, folder, shard_name, config.open_engine, config.progress
                )
            except BaseException:
                failed.set()  # a bad row is told at once, not when all files have been read
                raise
            identities = list(found_files)
        for found, was in zip(identities, before, strict=True):
            if (found.size, found.mtime_ns) != (was.st_size, was.st_mtime_ns):
                raise InputError(f"{found.path} changed while it was read; prepare it again")
        self.info.have_columns(
            built.layout.num_columns, data.group is not None, data.weight is not None
        )
        self.info.metadata.update(_manifest(self, data, folder, built, identities))
        infos = [
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[blocks.num_blocks(shard.rows) for shard in shards],
                num_bytes=sum(shard.size for shard in shards),
                filename_template=templates[split],
            )
            for split, shards in built.shards.items()
        ]
        self.info.set_splits(tfds.core.splits.SplitDict(infos))

    def _make_download_manager(self, *args: Any, **kwargs: Any) -> Any:
        return types.SimpleNamespace(downloaded_size=0)  # nothing is downloaded

    def _log_download_bytes(self) -> None:
        """Prints nothing: progress is the caller's."""

    def _log_download_done(self) -> None:
        """Prints nothing: progress is the caller's."""


def _grouped(data: RawData, group: str | None) -> RawData:
    """The data with the raw column that rows are grouped by, given by its name or a field's.

    Raises:
      InputError: there is no such column.
    """
    if group is None or data.group is not None:
        return data
    sources = {column.name: column.source for column in data.columns}
    sources |= {source: source for source in sources.values()}
    if group not in sources:
        raise InputError(f"group: there is no column {group!r}; there are {', '.join(sources)}")
    return dataclasses.replace(data, group=sources[group])


def builder_of(data_format: type[Format]) -> type[BlockBuilder]:
    """The builder of a data set, which tensorflow-datasets wants as a class of its own."""
    version = tfds.core.Version(data_format.VERSION)
    facts = {
        "FORMAT": data_format,
        "name": data_format.name,
        "VERSION": version,
        "RELEASE_NOTES": {str(version): "Texts that mean the same value share a row."},
        "MANUAL_DOWNLOAD_INSTRUCTIONS": data_format.MANUAL_DOWNLOAD_INSTRUCTIONS,
        # In whose package tensorflow-datasets looks for files that describe a data set.
        "__module__": __name__,
    }
    return type(data_format.__name__, (BlockBuilder,), facts)


def _manifest(
    builder: BlockBuilder,
    data: RawData,
    folder: pathlib.Path,
    built: pipeline.Built,
    identities: list[FileIdentity],
) -> dict[str, Any]:
    """Writes the rejects into the folder and describes all of it."""
    files = [manifest.VOCABULARY]
    if built.rejects:
        reading.write_rejects(folder / manifest.REJECTS, built.rejects)
        files.append(manifest.REJECTS)
    fields = []
    for number, column in enumerate(data.columns):
        field = {
            "name": column.name,
            "source": column.source,
            "kind": column.kind,
            "rows": built.layout.sizes[number],
            "offset": int(built.layout.offsets[number]),
        }
        if column.kind == NUMERIC:
            field["edges"] = built.edges[number].tolist()
        if built.layout.slots[number] > 1:
            field["slots"] = built.layout.slots[number]
        if built.layout.weighted[number]:
            field["weighted"] = True
        if built.cut[number]:
            field["cut"] = int(built.cut[number])
        if number in built.rules:
            field["rule"] = dataclasses.asdict(built.rules[number])
        fields.append(field)
    label_rate = built.labels[:, 1] / built.labels.sum(axis=1)
    beside: dict[str, Any] = {}
    if built.weights is not None:
        sums = built.weights[:, :, 0]
        label_rate = sums[:, 1] / sums.sum(axis=1)
        beside["weights"] = {
            split: {"sum": of_split[:, 0].tolist(), "squares": of_split[:, 1].tolist()}
            for split, of_split in zip(SPLITS, built.weights, strict=True)
        }
        beside["weightless"] = built.weightless
    if builder.builder_config.options.draw_negatives < 1:
        kept, every = built.negatives.tolist()
        beside["negatives"] = {"drawn": kept, "all": every}
    return manifest.seal(
        beside
        | {
            "format": manifest.format_of(built.layout),
            "name": builder.name,
            "version": str(builder.version),
            "options": dict(builder.builder_config.used),
            "fields": fields,
            "num_rows": {s: int(built.labels[i].sum()) for i, s in enumerate(SPLITS)},
            "label_rate": dict(zip(SPLITS, label_rate.tolist(), strict=True)),
            "unseen": {
                split: dict(zip(built.layout.names, rows.tolist(), strict=True))
                for split, rows in zip(SPLITS, built.unseen, strict=True)
            },
            "facts": dict(data.facts),
            "rejected": len(built.rejects),
            "shards": {s: [dataclasses.asdict(x) for x in built.shards[s]] for s in SPLITS},
            "files": [
                {
                    "file": name,
                    "size": (folder / name).stat().st_size,
                    "sha256": checksum.sha256(folder / name),
                }
                for name in files
            ],
            "sources": [dataclasses.asdict(identity) for identity in identities],
        }
    )
