"""Raw: what lies in files, as people have them.

Offers text, Parquet and tables as blocks of rows, and what a cell is.
May import: ``errors``, ``fields``, ``metrics``, ``values``, ``data.parallel``.
"""
