"""Table: how rows are read, updated, scored and stored.

Offers the row optimiser and its decays, lookup, scores of rows, the compact form.
May import: ``errors``, ``fields``, ``metrics``, ``method``, ``exchange``.
"""
