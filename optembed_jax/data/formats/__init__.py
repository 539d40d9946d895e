"""Formats: a description of each data set, a file each; none knows how it is prepared.

Offers where the raw files are, which columns become fields, and where the data come from.
May import: ``data.raw`` and what is below it.
"""
