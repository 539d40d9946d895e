"""Step: one training step.

Offers the optimisers, the training state, and ``train_step``, which reads like algorithm 1.
May import: ``errors``, ``fields``, ``metrics``, ``method``, ``exchange``, ``table``, ``models``.
"""
