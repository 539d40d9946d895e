"""Values: what a raw value is, in which way a column writes its own, and where one is found.

Offers the canonical text of a value, a column's way of writing, a hash table of texts, and how
many values had no row. NumPy alone, and safetensors for the file of values:
who serves without JAX and pyarrow reads values by this too.
May import: ``errors``, ``fields``.
"""
