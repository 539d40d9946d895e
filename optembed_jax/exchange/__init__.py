"""Exchange: what devices tell each other within a step.

Offers the batch's axis and rows sharded over devices.
May import: the ground.
"""
