import functools
import sys

import flax.linen as nn
import outside_backbones
import pytest
from flax import nnx
from outside_backbones import LinenAttention, NnxAttention

from optembed_jax.errors import InputError
from optembed_jax.models.backbone_name import (
    KnownByName,
    backbone_name,
    imported,
    options_of,
    reads_linear,
    reads_products,
)
from optembed_jax.models.model_config import ModelConfig


class Wants(nn.Module):
    alphabet: int

    def __call__(self, embedded):
        return embedded.sum(axis=(1, 2))


class WithoutKeys(nnx.Module):
    def __call__(self, embedded):
        return embedded.sum(axis=(1, 2))


class OfIds(nn.Module):
    def __call__(self, ids):
        return ids


class Late(nn.Module):
    def __call__(self, linear, embedded):
        return embedded.sum(axis=(1, 2)) + linear


class Greedy(nn.Module):
    def __call__(self, embedded, context):
        return embedded.sum(axis=(1, 2)) + context


class Silent(nn.Module):
    width: int = 1


class Activated(nn.Module):
    activation: object = nn.relu
    batch_axis: object = None

    def __call__(self, embedded, **others):
        return self.activation(embedded.sum(axis=(1, 2)))


class Axial(nn.Module):
    batch_axis: object

    def __call__(self, embedded):
        return embedded.sum(axis=(1, 2))


class Lists(nn.Module):
    rates: object = None

    def __call__(self, embedded):
        return embedded


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("fm", "fm"),
        (LinenAttention, "outside_backbones:LinenAttention"),
        (LinenAttention(width=4), "outside_backbones:LinenAttention(width=4, dropout=0.1)"),
        (functools.partial(NnxAttention, width=2), "outside_backbones:NnxAttention(width=2)"),
        (KnownByName("a:B", False), "a:B"),
    ],
)
def test_names_tell_backbones_apart(model, name):
    config = ModelConfig(model=model)
    assert backbone_name(model) == config.model_name == config.as_record()["model"] == name
    assert hash(config) == hash(ModelConfig(model=model)) and config == ModelConfig(model=model)


def test_a_name_is_the_same_in_every_process():
    names = [backbone_name(Activated(own)) for own in (nn.relu, print, Activated, object())]
    told = [name.split("activation=")[1].split(", batch_axis")[0] for name in names]
    relu = f"{nn.relu.__module__}.relu"
    assert told == [relu, "builtins.print", f"{__name__}.Activated", "<object object>"]


def test_the_linear_term_is_read_by_who_asks_for_it():
    assert reads_linear(LinenAttention) and not reads_linear(NnxAttention)
    assert ModelConfig(model=LinenAttention(width=2)).has_linear_term
    assert not ModelConfig(model=functools.partial(NnxAttention, width=2)).has_linear_term
    assert ModelConfig(model=KnownByName("a:B", True)).has_linear_term


def test_products_alone_are_read_by_who_says_so():
    class Pairs(LinenAttention):
        reads_products = True

    assert reads_products(Pairs) and reads_products(functools.partial(Pairs, width=2))
    assert ModelConfig(model=Pairs(width=2)).reads_products
    for other in (LinenAttention, KnownByName("a:B", True)):
        assert not reads_products(other) and not ModelConfig(model=other).reads_products
    assert ModelConfig(model="fm").reads_products
    assert not ModelConfig(model="deepfm").reads_products


def test_constructors_are_given_what_they_name():
    has = {"latent_dim": 4, "num_fields": 3, "dropout": 0.5, "cross_layers": None}
    assert options_of(LinenAttention, has) == {"dropout": 0.5}
    assert options_of(NnxAttention, has) == {"latent_dim": 4, "num_fields": 3}
    # There is no axis on one device: whoever insists on one is given None.
    assert options_of(Axial, {"batch_axis": None}) == {"batch_axis": None}
    assert options_of(Activated, {"batch_axis": None}) == {}
    bound = functools.partial(NnxAttention, 7, width=2)
    assert options_of(bound, has) == {"latent_dim": 4}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("autoencoder", "one of fm, .* or a Flax module, not 'autoencoder'"),
        (3, "a Flax module .* not 3"),
        (print, "a Flax module"),
        (dict, "a Flax module"),
        (Wants, "Wants wants 'alphabet', which a model has not .* functools.partial"),
        (WithoutKeys, "WithoutKeys has no parameter rngs"),
        (OfIds, r"OfIds has no __call__\(self, embedded, ...\)"),
        (Late, r"Late has no __call__\(self, embedded, ...\).* comes first"),
        (Silent, r"Silent has no __call__\(self, embedded, ...\)"),
        (Greedy, "__call__ of backbone Greedy wants 'context'; .* linear, train, weights"),
        (functools.partial(Activated, colour=3), "Activated cannot be made .*'colour'"),
        (functools.partial(NnxAttention, 1, 2, 3, 4, 5, 6), "NnxAttention cannot be made of what"),
        (Lists(rates={"a": [1]}), "Lists cannot be told from others.* hashable"),
    ],
)
def test_what_is_no_backbone(model, message):
    with pytest.raises(InputError, match=message):
        ModelConfig(model=model)


def test_an_instance_with_parameters_is_refused():
    module = NnxAttention(3, 4, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match=r"instance of NnxAttention.*give the class"):
        ModelConfig(model=module)


def test_a_name_is_imported():
    assert imported("outside_backbones:LinenAttention") is LinenAttention
    assert imported("outside_backbones:SMALL_ATTENTION") is outside_backbones.SMALL_ATTENTION


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("outside_backbones", "no backbone; .* package.module:ClassName"),
        (":A", "no backbone"),
        ("outside_backbones:", "no backbone"),
        ("no_such_module:A", "no module 'no_such_module'; it is looked for in the current folder"),
        ("outside_backbones.inner:A", "no module 'outside_backbones"),
        ("outside_backbones:Absent", "outside_backbones has nothing named 'Absent'"),
        ("outside_backbones:NOTHING_AT_ALL", "a Flax module"),
        ("broken_backbone:A", "broken_backbone does not import: .*division by zero"),
        ("lacking_backbone:A", "lacking_backbone does not import: .*absent_thing"),
    ],
)
def test_what_cannot_be_imported_is_told_in_a_line(name, message, tmp_path, monkeypatch):
    (tmp_path / "broken_backbone.py").write_text("1 / 0\n")
    (tmp_path / "lacking_backbone.py").write_text("import absent_thing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        imported(name)
    assert "\n" not in str(raised.value)
    assert "broken_backbone" not in sys.modules
