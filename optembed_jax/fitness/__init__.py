"""Fitness: many candidates scored at once by the frozen supernet.

Offers the validation fitness, and the forms of the forward pass that make it cheap.
May import: ``search``, ``models`` and what is below them.
"""
