"""Which backbones ``--models`` names."""

from optembed_jax.errors import InputError
from optembed_jax.models import MODEL_NAMES


def backbones(names: list[str]) -> list[str]:
    """The names, or, where they are only ``all``, those of all backbones.

    Raises:
      InputError: there is no such backbone.
    """
    names = list(MODEL_NAMES) if names == ["all"] else names
    if unknown := [name for name in names if name not in MODEL_NAMES]:
        raise InputError(f"--models={unknown[0]}: must be all or of {', '.join(MODEL_NAMES)}")
    return names
