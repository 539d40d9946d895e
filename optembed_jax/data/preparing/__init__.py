"""Preparing: raw rows into the prepared form, in bounded memory.

Offers the builder that writes shards, vocabulary and manifest, and the engines that do the work:
threads of this process, or a cluster.
May import: ``errors``, ``fields``, ``values``, ``storage``, ``data``, ``data.raw``,
``data.formats``.
"""
