"""Training: the loop around the step.

Offers ``fit`` with early stopping, predictions of a split, checkpoints, and going on from one.
May import: ``devices``, ``storage`` and what is below them.
"""
