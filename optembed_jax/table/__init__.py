"""Table: how rows are read, updated, scored and stored.

Offers the row optimiser and its decays, lookup, scores by which rows are kept, the compact form.
May import: ``method``, ``exchange`` and the ground.
"""
