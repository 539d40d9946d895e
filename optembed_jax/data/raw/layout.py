"""How the text files of a table are written, where that is not found in the files themselves."""

import codecs
import dataclasses

from optembed_jax.errors import InputError
from optembed_jax.values.cells import SPELLED_TAB

UTF8 = "utf-8"


@dataclasses.dataclass(frozen=True)
class Layout:
    """How text files are written.

    Attributes:
      delimiter: what stands between cells, one character; None finds it in the first line.
      decimal: the decimal sign, "." or ",".
      encoding: of the text, by Python's name for it.
      columns: the names of all columns in order, of files without a header; () where they have one.

    Raises:
      InputError: a value outside what is described above; the message names the option.
    """

    delimiter: str | None = None
    decimal: str = "."
    encoding: str = UTF8
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.delimiter is not None:
            delimiter = "\t" if self.delimiter in SPELLED_TAB else self.delimiter
            object.__setattr__(self, "delimiter", delimiter)
            if len(delimiter.encode()) != 1 or delimiter in '"\r\n':
                raise InputError(
                    f"delimiter must be one character of one byte, or tab, not {self.delimiter!r}"
                )
        if self.decimal not in (".", ","):
            raise InputError(f"decimal must be . or , and not {self.decimal!r}")
        try:
            name = codecs.lookup(self.encoding).name
            "".encode(name)
        except (LookupError, ValueError) as error:
            raise InputError(
                f"encoding {self.encoding!r} is not known; such as utf-8, latin-1, cp1252, utf-16"
            ) from error
        object.__setattr__(self, "encoding", name)
        columns = tuple(name.strip() for name in self.columns)
        object.__setattr__(self, "columns", columns)
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if twice:
            raise InputError(f"columns names {twice[0]!r} twice")


FOUND = Layout()
"""What most files are: UTF-8 with a header, points as decimal signs, a delimiter that is found."""
