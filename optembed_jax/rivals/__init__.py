"""Rivals: other ways to make a table smaller, to be compared with OptEmbed at equal sizes.

Offers a registry of them; each says which rows and which dimensions a budget keeps.
May import: ``errors``, ``fields``, ``method``, ``table``, ``search``.
"""
