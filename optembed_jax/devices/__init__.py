"""Devices: how a step runs on the devices at hand.

Offers one device, copies by ``pmap``, rows sharded over a mesh, and the choice between them.
May import: ``step`` and what is below it.
"""
