"""Serving: the artifact that is deployed.

Offers the compact model; bundles written, loaded and served.
May import: ``errors``, ``fields``, ``metrics``, ``method``, ``table``, ``models``, ``storage``,
``data``, ``values``.
"""
