import math

import pytest

from experiments.benchmarks.regulariser.variants import (
    BASIC,
    FAMILIES,
    OPTIONS,
    TOGETHER,
    WITH_OPTIONS,
    families,
    with_options,
)
from optembed_jax.errors import InputError


@pytest.mark.parametrize("name", FAMILIES)
def test_every_rung_of_every_family_can_be_trained(name):
    family = FAMILIES[name]
    configs = [family.train(rung.name) for rung in family.rungs]
    assert len(set(configs)) == len(configs) == len({rung.name for rung in family.rungs})
    # The network is regularised alike in all, so that the table alone is compared.
    assert {config.l2 for config in configs} == {FAMILIES["none"].train("-").l2}
    assert family.loop.stopping is not None and family.loop.patience < family.loop.epochs


def test_ladders_begin_with_the_weakest_and_reach_as_far_as_peers_are_tried():
    for family in BASIC:
        if family.name != "none":
            strengths = [max(float(s) for s in r.name.split(" + ")) for r in family.rungs]
            assert strengths[0] == min(strengths)
            if "+" not in family.rungs[0].name:
                assert strengths == sorted(strengths)
    reach = [max(float(rung.name) for rung in FAMILIES[name].rungs) for name in WITH_OPTIONS]
    assert reach == [1e-2, 3e-1, 3e-1]


def test_options_are_tried_one_at_a_time_and_together():
    for base in WITH_OPTIONS:
        for option in OPTIONS:
            family = FAMILIES[f"{base}+{option}"]
            assert family.tuned_as == base
            assert [rung.name for rung in family.rungs] == [r.name for r in FAMILIES[base].rungs]
            changed = family.loop != FAMILIES[base].loop
            rung = family.rungs[0].name
            changed_training = family.train(rung) != FAMILIES[base].train(rung)
            assert changed or changed_training
        assert FAMILIES[f"{base}+{'+'.join(TOGETHER)}"].tuned_as is None


def test_options_add_up():
    family = with_options(FAMILIES["none"], ["patience", "logloss"], tuned=True)
    assert (family.loop.patience, family.loop.by) == (4, "logloss")
    assert family.name == "none+patience+logloss"


def test_families_are_named_or_all():
    assert families([]) == tuple(FAMILIES.values())
    assert [family.name for family in families(["l2_coupled", "none"])] == ["none", "l2_coupled"]
    with pytest.raises(InputError, match="--variants: no 'lasso'; there are none, group_lasso"):
        families(["lasso"])


def test_strengths_are_named_as_they_are():
    for rung in FAMILIES["elastic_net"].rungs:
        rent, l2 = map(float, rung.name.split(" + "))
        assert math.isclose(rent, rung.train["rent"]) and math.isclose(l2, rung.train["table_l2"])
