"""Search: which dimensions and rows to keep, under a budget.

Offers searchers, proposals, the surrogate, rules, successive halving and the budget.
May import: ``storage`` and the ground.
"""
