"""The rivals by name: a new one is a file, and a line here."""

from collections.abc import Mapping

from optembed_jax.errors import InputError
from optembed_jax.rivals.auto_dim import AUTO_DIM
from optembed_jax.rivals.frequency import FREQUENCY
from optembed_jax.rivals.hashing import HASH
from optembed_jax.rivals.magnitude import MAGNITUDE
from optembed_jax.rivals.mixed_dimensions import MIXED_DIMENSIONS
from optembed_jax.rivals.pep import PEP
from optembed_jax.rivals.quotient_remainder import QUOTIENT_REMAINDER
from optembed_jax.rivals.rival import Rival
from optembed_jax.rivals.uniform import UNIFORM

OPTEMBED = "optembed"
"""The project's own method, which is no rival."""

RIVALS: Mapping[str, Rival] = {
    rival.name: rival
    for rival in (
        FREQUENCY,
        MAGNITUDE,
        UNIFORM,
        MIXED_DIMENSIONS,
        AUTO_DIM,
        PEP,
        HASH,
        QUOTIENT_REMAINDER,
    )
}

METHODS = (OPTEMBED, *RIVALS)


def rival_of(method: str) -> Rival | None:
    """The rival of that name; None for OptEmbed itself.

    Raises:
      InputError: there is none.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    return RIVALS.get(method)
