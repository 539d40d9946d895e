"""Synthetic data whose truth is known: which fields matter, which values, in how many dimensions.

Each value of a signal field has a latent vector; a label is drawn from the logistic function of the
sum of all pairwise inner products (a factorisation machine) and of a weight per value. A signal
field uses only its own number of latent dimensions, from few to many, and the label ignores the
noise fields altogether. Values occur by Zipf's law, so that many are rare.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from optembed_jax.data.formats.description import Format
from optembed_jax.data.options import DataOptions
from optembed_jax.data.raw.columnar import TableSource
from optembed_jax.data.raw.columns import Column, Label
from optembed_jax.data.raw.labels import zero_or_one
from optembed_jax.data.raw.sources import RawData

_LATENT = 8
_ZIPF = 1.1
_LOGIT_SPREAD = 2.0
_BASE_LOGIT = -1.0


@dataclasses.dataclass(frozen=True)
class Truth:
    """What the synthetic data were made from.

    Attributes:
      names: the field names, signal fields first.
      signal: whether the label depends on each field, bool ``[F]``.
      dims: latent dimensions that each field uses, int ``[F]``; 0 for noise fields.
      bayes_logits: the true logit of every row, float64 ``[N]``: no model scores better.
    """

    names: tuple[str, ...]
    signal: np.ndarray
    dims: np.ndarray
    bayes_logits: np.ndarray


def generate(options: DataOptions) -> tuple[np.ndarray, np.ndarray, Truth]:
    """Draws synthetic data.

    Args:
      options: rows, numbers of fields, field size, and seed.

    Returns:
      Values int64 ``[N, F]`` (0 is each field's most frequent value), labels uint8 ``[N]``, and
      the truth.
    """
    rng = np.random.default_rng(options.data_seed)
    rows, size = options.synthetic_rows, options.synthetic_field_size
    signal, noise = options.synthetic_signal_fields, options.synthetic_noise_fields
    chance = 1.0 / np.arange(1, size + 1) ** _ZIPF
    chance /= chance.sum()
    values = np.stack(
        [rng.choice(size, rows, p=chance) for _ in range(signal + noise)], axis=1
    ).astype(np.int64)
    dims = np.rint(np.linspace(1, _LATENT, signal)).astype(np.int64)
    logits = np.zeros(rows)
    total = np.zeros((rows, _LATENT))
    squares = np.zeros(rows)
    for field in range(signal):
        latent = rng.normal(size=(size, _LATENT)) / np.sqrt(dims[field])
        latent[:, dims[field] :] = 0.0
        weight = rng.normal(size=size)
        vectors = latent[values[:, field]]
        logits += weight[values[:, field]]
        total += vectors
        squares += (vectors**2).sum(axis=1)
    logits += 0.5 * ((total**2).sum(axis=1) - squares)
    logits = (logits - logits.mean()) * (_LOGIT_SPREAD / max(logits.std(), 1e-12)) + _BASE_LOGIT
    labels = (rng.random(rows) < 1.0 / (1.0 + np.exp(-logits))).astype(np.uint8)
    truth = Truth(
        names=tuple([f"signal_{i}" for i in range(signal)] + [f"noise_{i}" for i in range(noise)]),
        signal=np.arange(signal + noise) < signal,
        dims=np.concatenate([dims, np.zeros(noise, np.int64)]),
        bayes_logits=logits,
    )
    return values, labels, truth


class Synthetic(Format):
    """Synthetic data with a planted truth."""

    name = "synthetic"
    DESCRIPTION = (
        "Rows drawn from a factorisation machine over the signal fields; the noise fields carry "
        "nothing. The facts of the prepared data hold `signal` and `dims` by field name."
    )
    CITATION = "Made by OptEmbed-JAX."
    HOMEPAGE = "https://arxiv.org/abs/2208.04482"
    LICENSE = "Apache-2.0"

    @staticmethod
    def columns_of(used: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Column, ...]:
        """Signal fields, then noise fields."""
        return tuple(Column(name, name) for name in facts["signal"])

    @classmethod
    def raw_data(cls, options: DataOptions) -> RawData:
        """Draws the data."""
        values, labels, truth = generate(options)
        columns: dict[str, Any] = {
            name: [f"v{v}" for v in values[:, f].tolist()] for f, name in enumerate(truth.names)
        }
        facts = {
            "signal": dict(zip(truth.names, truth.signal.tolist(), strict=True)),
            "dims": dict(zip(truth.names, truth.dims.tolist(), strict=True)),
        }
        return RawData(
            TableSource(pa.table(columns | {"label": labels})),
            cls.columns_of({}, facts),
            Label("label", zero_or_one),
            facts=facts,
        )
