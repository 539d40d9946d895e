"""Step: one training step.

Offers the optimisers, the training state, and ``train_step``, which reads like algorithm 1.
May import: ``models`` and what is below it.
"""
