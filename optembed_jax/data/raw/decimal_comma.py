"""Numbers whose decimal sign is a comma, read with a point."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from optembed_jax.data.raw.sources import RawRows, Reject

_WITH_COMMA = r"^([ \t]*[+-]?[0-9]*),([0-9]*(?:[eE][+-]?[0-9]+)?[ \t]*)$"
"""A number with a decimal comma; anything else is told as it stands there."""


def with_points(rows: RawRows, names: tuple[str, ...], path: str) -> RawRows:
    """The same with a decimal point in some columns; rows that have one already are rejects.

    Args:
      rows: as they were read.
      names: of the columns, which are text.
      path: of the file, for the rejects.
    """
    columns, faults = dict(rows.columns), dict[int, tuple[str, str]]()
    for name in names:
        points = pc.fill_null(pc.match_substring(columns[name], "."), False)
        for place in np.flatnonzero(points.to_numpy()).tolist():
            faults[place] = name, columns[name][place].as_py()
        columns[name] = pc.replace_substring_regex(columns[name], _WITH_COMMA, r"\1.\2")
    if not faults:
        return dataclasses.replace(rows, columns=columns)
    good = np.array([place not in faults for place in range(len(rows.lines))], bool)
    stay = np.flatnonzero(good)
    rejects = [
        Reject(
            path,
            int(rows.lines[place]),
            f"column {name!r} is {cell!r}, which has a point where the decimal sign is a comma",
            rows.text(place),
        )
        for place, (name, cell) in sorted(faults.items())
    ]
    return RawRows(
        columns={name: column.filter(pa.array(good)) for name, column in columns.items()},
        lines=rows.lines[good],
        rows=rows.rows[good],
        text=lambda position: rows.text(int(stay[position])),
        rejects=tuple(sorted((*rows.rejects, *rejects), key=lambda reject: reject.line)),
        headerless=rows.headerless,
    )
