"""A column in the type that its library stores, where Python's values of it are of another.

Floats of 32 bits come out of a data frame one by one as Python's, of 64, whose text has more
digits, and times without their nanoseconds. So such columns are taken whole. Without an import of
these libraries: what they can do tells them.
"""

import array
from typing import Any

import numpy as np


def as_stored(values: Any) -> Any:
    """A column's values, or a list's, with the types that they are stored in.

    Args:
      values: of any kind.

    Returns:
      A NumPy array, an Arrow one, or a list where one of these holds what the column does and its
      iteration would not; ``values`` themselves of all others.
    """
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
    if getattr(kind, "time_zone", None) is not None:  # polars leaves it out
        return values
    if not _may_be_wider(str(getattr(getattr(kind, "categories", None), "dtype", kind))):
        return values
    stored = np.asarray(values.to_numpy())
    # Of what is missing beside floats pandas before 3 makes objects, each of its own type.
    return stored if stored.dtype.kind in "fMO" else values


def _may_be_wider(kind: str) -> bool:
    """Whether Python's values of a type may be of another one: floats, and polars' times."""
    return kind.lower().startswith(("float", "datetime("))
