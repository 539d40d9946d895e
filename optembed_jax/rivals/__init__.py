"""Rivals: other ways to make a table smaller, to be compared with OptEmbed at equal sizes.

Offers a registry of them; each says what a budget keeps of a table, and in which form.
May import: ``errors``, ``fields``, ``method``, ``exchange``, ``table``, ``models``, ``search``,
``serving``.
"""
