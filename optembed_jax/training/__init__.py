"""Training: the loop around the step.

Offers ``fit`` with early stopping, predictions of a split, checkpoints, going on from one.
May import: ``errors``, ``fields``, ``metrics``, ``storage``, ``table``, ``models``, ``step``,
``devices``.
"""
