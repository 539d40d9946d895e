"""Search: which dimensions and rows to keep, under a budget.

Offers searchers, proposals, a surrogate, simple rules, successive halving, the budget.
May import: ``errors``, ``fields``, ``metrics``, ``storage``.
"""
