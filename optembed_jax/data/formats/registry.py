"""The data sets by name. A new one is a file beside this one, and a name here."""

from collections.abc import Mapping

from optembed_jax.data.formats.avazu import Avazu
from optembed_jax.data.formats.criteo_display import CriteoDisplay
from optembed_jax.data.formats.description import Format
from optembed_jax.data.formats.flights import Flights
from optembed_jax.data.formats.kdd12 import Kdd12
from optembed_jax.data.formats.movielens import MovieLens
from optembed_jax.data.formats.synthetic import Synthetic
from optembed_jax.data.formats.table import Table

DATASETS: Mapping[str, type[Format]] = {
    format.name: format
    for format in (Flights, MovieLens, Table, Synthetic, CriteoDisplay, Avazu, Kdd12)
}
"""The description of each data set."""
