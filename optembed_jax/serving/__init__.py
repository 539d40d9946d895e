"""Serving: the artifact that is deployed.

Offers the compact model, bundles written, loaded and served, and other libraries' forms.
May import: ``models``, ``data``, ``storage`` and what is below them.
"""
