"""What a data set is, apart from how it is prepared: the description that every format gives."""

import abc
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

from optembed_jax.data.options import DataOptions
from optembed_jax.data.raw.columns import Column
from optembed_jax.data.raw.files import find_files
from optembed_jax.data.raw.sources import RawData
from optembed_jax.data.splits import split_index_files
from optembed_jax.errors import InputError


class Format(abc.ABC):
    """A data set: where its raw rows come from, and which of their columns become fields.

    Attributes:
      name: by which it is asked for, and that of its folder.
      DESCRIPTION: what the rows are, in a few sentences.
      CITATION: whom to cite.
      HOMEPAGE: where the data are published.
      LICENSE: under what terms.
      MANUAL_DOWNLOAD_INSTRUCTIONS: which raw files to put where; None where none are needed.
      RAW_FILES: patterns of the raw files in `raw_dir`, of which the first counts that any file
        fits, where there may be several; () where there may not.
      VERSION: of the prepared form; another one is prepared anew.
    """

    name: ClassVar[str]
    DESCRIPTION: ClassVar[str]
    CITATION: ClassVar[str]
    HOMEPAGE: ClassVar[str]
    LICENSE: ClassVar[str]
    MANUAL_DOWNLOAD_INSTRUCTIONS: ClassVar[str | None] = None
    RAW_FILES: ClassVar[tuple[str, ...]] = ()
    VERSION: ClassVar[str] = "2.0.0"

    @staticmethod
    @abc.abstractmethod
    def columns_of(used: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Column, ...]:
        """The ``F`` fields, from what a prepared folder knows: its options and facts."""

    @classmethod
    def files(cls, options: DataOptions) -> tuple[pathlib.Path, ...] | None:
        """The raw files that the options lead to now, unread; None where they tell them one by one.

        Asked for where a folder may have got another file since it was prepared.
        """
        if not cls.RAW_FILES:
            return None
        try:
            files = find_files(options.raw_dir, cls.RAW_FILES, "")
            if options.split_index is not None:
                files += split_index_files(options.split_index)
        except InputError:
            return None  # They are gone, which is told where they are needed.
        return tuple(file.path for file in files)

    @classmethod
    @abc.abstractmethod
    def raw_data(cls, options: DataOptions) -> RawData:
        """The raw rows.

        Raises:
          InputError: raw files are missing, or an option does not fit them.
        """
