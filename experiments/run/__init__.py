"""Run: the machinery of a run, from flags to a summary.

Offers the flags, the phases, the work folder, progress and reports; the mains are one floor up.
May import: ``optembed_jax``.
"""
