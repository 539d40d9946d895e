"""A column in the type that its library stores, where Python's values of it are of another.

Floats of 32 bits come out of a data frame one by one as Python's, of 64, whose text has more
digits, and times without their nanoseconds. So such columns are taken whole. Without an import of
these libraries: what they can do tells them.
"""

import array
import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from optembed_jax.errors import InputError
from optembed_jax.values.text import arrow_time_texts


def as_stored(values: Any) -> Any:
    """A column's values, or a list's, with the types that they are stored in.

    Args:
      values: of any kind.

    Returns:
      A NumPy array, an Arrow one, or a list where one of these holds what the column does and its
      iteration would not; ``values`` themselves of all others.
    """
    if isinstance(values, memoryview) and values.format == "B":  # bytes, which are one text
        return values
    if isinstance(values, array.array | memoryview):
        return np.asarray(values)
    if isinstance(values, list | tuple | np.ndarray) or hasattr(values, "to_pylist"):
        return values
    kind = getattr(values, "dtype", None)
    if kind is None or not hasattr(values, "to_numpy"):
        return values
    if type(kind).__name__ == "ArrowDtype":  # pandas' of Arrow's arrays, lists of them among these
        return getattr(values, "array", values).__arrow_array__()
    if kind == np.dtype(object):
        return list(values)
    if str(kind).startswith(_OF_POLARS) and hasattr(values, "to_arrow"):
        with contextlib.suppress(ImportError):  # without pyarrow, as they come
            return values.to_arrow()
    if getattr(kind, "time_zone", None) is not None:  # which NumPy's have not
        return values
    if not _may_be_wider(str(getattr(getattr(kind, "categories", None), "dtype", kind))):
        return values
    stored = np.asarray(values.to_numpy())
    # Of what is missing beside floats pandas before 3 makes objects, each of its own type.
    return stored if stored.dtype.kind in "fMO" else values


_OF_POLARS = ("Datetime(", "Time", "List(", "Array(")
"""Types of polars whose Python values have no nanoseconds, or are of other types within."""


def _may_be_wider(kind: str) -> bool:
    """Whether Python's values of a type may be of another one: floats, and polars' times."""
    return kind.lower().startswith(("float", "datetime("))


_WITHOUT_TEXT = ("duration", "month_day_nano", "run_end_encoded", "sparse_union", "dense_union")
"""Kinds of Arrow arrays that are refused, as whole columns of them are."""

EXTENSIONS = frozenset(("arrow.uuid", "arrow.bool8", "arrow.json", "arrow.opaque"))
"""Arrow's extension types whose values are what is stored; of others, such as pandas' periods, that
is a code of its own.
"""


def check_extension(kind: Any) -> None:
    """Refuses an Arrow type that is another one underneath, whose values are not known here.

    Raises:
      InputError: naming the type.
    """
    name = getattr(kind, "extension_name", None)
    if name is not None and name not in EXTENSIONS:
        raise InputError(f"values of the extension type {name} cannot be read as text")


def unpacked(values: Any) -> Sequence[Any]:
    """The values of an Arrow array, which its own scalars are not."""
    kind = str(values.type)
    if kind.startswith("dictionary"):
        return _looked_up(values)
    check_extension(values.type)
    if kind.startswith(_WITHOUT_TEXT):
        raise InputError(f"values of type {kind} cannot be read as text")
    if kind.startswith(("timestamp", "time", "date")):  # Python has no nanoseconds
        return arrow_time_texts(values)
    if kind not in ("halffloat", "float", "double"):
        try:
            return values.to_pylist()
        except UnicodeDecodeError as error:
            raise InputError(f"values of type {kind} are no UTF-8 text") from error
    # Python has one float, which has more digits than 32 bits hold.
    return values.to_numpy() if hasattr(values, "chunks") else values.to_numpy(zero_copy_only=False)


def _looked_up(values: Any) -> list[Any]:
    """The values of an Arrow array of dictionaries: each chunk has its own."""
    found: list[Any] = []
    for chunk in values.chunks if hasattr(values, "chunks") else [values]:
        held = [*unpacked(chunk.dictionary), None]
        found += [held[-1 if place is None else place] for place in chunk.indices.to_pylist()]
    return found
