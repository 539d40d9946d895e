"""Run: the machinery of a run, from flags to a summary; the mains are one floor up.

Offers the flags, the phases, the work folder, progress and reports.
May import: ``optembed_jax``.
"""
