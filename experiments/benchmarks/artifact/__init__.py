"""The artifact as a whole: bytes of the folder, AUC, one request, a file, loading and memory.

Needs nothing but the project: every figure is of its commands, or of a process that serves.
May import: everything.
"""
