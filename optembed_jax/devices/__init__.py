"""Devices: how a step runs on the devices at hand.

Offers one device, copies by ``pmap``, rows sharded over a mesh, the choice between them.
May import: ``errors``, ``fields``, ``metrics``, ``exchange``, ``method``, ``table``, ``models``,
``step``.
"""
