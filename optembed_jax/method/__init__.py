"""Method: the paper's equations, as functions over arrays.

Offers thresholds with their surrogate gradient, dimensions, the embedding table itself.
May import: ``errors``, ``fields``, ``metrics``.
"""
