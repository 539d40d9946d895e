"""Preparing: raw rows into the prepared form, in bounded memory.

Offers the builder that writes shards, vocabulary and manifest.
May import: ``errors``, ``fields``, ``values``, ``data``, ``data.raw``, ``data.formats``.
"""
