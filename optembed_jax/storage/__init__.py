"""Storage: files and saved states, whole or not at all, also on ``gs://``.

Offers array files, states through Orbax with manifests, paths, and a barrier between processes.
May import: the ground (``errors``, ``fields``, ``metrics``).
"""
