"""Targets: a bundle written again for the runtimes of others, and tried there.

Offers a registry of them (ONNX, PyTorch with FBGEMM); specs and values for SparseCore's libraries.
May import: ``errors``, ``fields``, ``serving``, ``values``, ``storage``, ``table``, ``models``,
``method``.
"""
