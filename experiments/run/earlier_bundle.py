"""A bundle as the beginning of a run: what is deployed, at full width again.

It has what was kept, and neither moments nor counts of steps. What it does not say of the network
is taken anew; ``serving.taken_up`` says what that is.
"""

import dataclasses
import functools
import hashlib
from pathlib import Path

import jax
import numpy as np
import safetensors.numpy

from experiments.run.earlier import Found, check_model, check_same
from experiments.run.settings import Settings
from optembed_jax.data.encoder import Encoder, read_encoder
from optembed_jax.errors import InputError
from optembed_jax.fields import Fields
from optembed_jax.models.model_config import ModelConfig
from optembed_jax.models.params import Params
from optembed_jax.serving import bundle_format, taken_up
from optembed_jax.serving.bundle import config_of
from optembed_jax.serving.bundle_content import Content, read_content
from optembed_jax.serving.forward_module import fields_of
from optembed_jax.values.lookup import Lookup

BUNDLE = "bundle"
"""The name of its only model."""


@dataclasses.dataclass(frozen=True, eq=False)
class EarlierBundle:
    """A bundle.

    Attributes:
      path: its folder.
      model: of this run, whose network has the same shape.
      content: all that is in it.
      encoder: raw columns to its ids.
      key: PRNG key, of what is fresh.
    """

    path: Path
    model: ModelConfig
    content: Content
    encoder: Encoder
    key: jax.Array

    kind = BUNDLE

    @functools.cached_property
    def identity(self) -> str:
        """Of all its files."""
        return identity_of(self.path)

    @property
    def fields(self) -> Fields:
        """Of the ids that it takes."""
        return fields_of(self.content.manifest["fields"])

    @property
    def lookup(self) -> Lookup:
        """Of its vocabulary."""
        return self.encoder.vocabulary.lookup

    @property
    def counts(self) -> np.ndarray | None:
        """Where it was exported with ``--counts``."""
        file = self.content.files.get(bundle_format.COUNTS)
        return None if file is None else safetensors.numpy.load(file)["counts"]

    def model_for(self, phase: str) -> str:
        """Its only one."""
        del phase
        return BUNDLE

    def found(self, name: str) -> Found:
        """The model, whose normalisations are yet to be measured."""
        del name
        table = taken_up.full_table(self.content, self.model.latent_dim)
        network, batch_stats = taken_up.full_network(self.key, self.model, self.content)
        params = Params(table=table, thresholds=None, network=network)
        return Found(params, batch_stats, None, is_folded=True)

    def kept(self) -> tuple[np.ndarray, np.ndarray]:
        """Its rows and dimensions."""
        dims = [field["dim"] for field in self.content.manifest["fields"]]
        return taken_up.has_own_row(self.content), np.array(dims, np.int32)

    def dims(self) -> np.ndarray | None:
        """Its dimensions, as a search may have them."""
        return np.maximum(self.kept()[1], 1)

    def scores(self) -> np.ndarray | None:
        """None: a bundle does not have them."""
        return None


def identity_of(path: Path) -> str:
    """What a bundle is, by the content of all its files.

    Raises:
      InputError: its list of files cannot be read.
    """
    try:
        sums = (path / bundle_format.SUMS).read_bytes()
    except OSError as error:
        raise InputError(f"warm_start {path}: {bundle_format.SUMS} cannot be read") from error
    return hashlib.sha256(sums).hexdigest()[:16]


def open_bundle(path: Path, settings: Settings) -> EarlierBundle:
    """A bundle, checked against the settings of this run.

    Raises:
      InputError: it is damaged or does not fit; the message names what.
    """
    content, own = read_content(path), settings.model.model
    manifest = content.manifest
    check_same(path, "model", settings.model.model_name, manifest["model"]["model"])
    was = config_of(path, manifest, own if settings.model.has_own_backbone else None)
    check_model(path, settings.model, was)
    if bundle_format.VOCABULARY not in content.files:
        raise InputError(
            f"warm_start {path} has no vocabulary, and nobody knows which value each of its rows "
            "is of; use a bundle that takes raw columns, or the run that it was exported from"
        )
    taken_up.check_whole_rows(path, content)
    fields = fields_of(manifest["fields"])
    files = content.files
    described, values = files[bundle_format.ENCODER], files[bundle_format.VOCABULARY]
    encoder = read_encoder(described, values, fields, files.get(bundle_format.TABLES))
    key = jax.random.fold_in(jax.random.key(settings.seed), len(fields.names))
    return EarlierBundle(path, settings.model, content, encoder, key)
