"""Targets: a bundle written again for the runtimes of others, and tried there.

Offers a registry of them; ONNX from raw columns or ids; the checks that each has to pass.
May import: ``errors``, ``fields``, ``serving``, ``values``, ``storage``, ``table``, ``models``.
"""
