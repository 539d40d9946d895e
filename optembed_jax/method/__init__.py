"""Method: the paper's equations, as functions over arrays.

Offers thresholds with their surrogate gradient, dimensions, and the embedding table itself.
May import: the ground.
"""
