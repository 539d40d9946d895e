"""Formats: a description of each data set, a file each; none knows how it is prepared.

Offers where raw files are, which columns become fields, whom to cite; ``registry`` lists all.
May import: ``errors``, ``fields``, ``metrics``, ``values``, ``data.raw``, ``data.options``,
``data.splits``.
"""
