import math

import pytest

from experiments.benchmarks.regulariser.variants import (
    BARE,
    BASIC,
    FAMILIES,
    MAIN,
    OPTIMISERS,
    OPTIONS,
    WITH_OPTIONS,
    families,
    with_options,
)
from experiments.run.training_flags import defaults_of
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
    assert reach == [0.1, 3.0]


def test_every_regulariser_is_tuned_with_the_main_option_and_some_without():
    tuned = [family.name for family in FAMILIES.values() if family.tuned_as is None]
    with_main = [f"{family.name}+{MAIN}" for family in (*BASIC, *OPTIMISERS)]
    assert tuned == [*with_main[: len(BASIC)], *BARE, *with_main[len(BASIC) :]]
    pruned = {name.removesuffix(f"+{MAIN}") for name, family in FAMILIES.items() if family.pruned}
    assert pruned == {"group_lasso", "l2_proximal", "l2_coupled", "elastic_net"}
    for name in pruned:
        assert FAMILIES[f"{name}+{MAIN}"].pruned


@pytest.mark.parametrize("base", WITH_OPTIONS)
@pytest.mark.parametrize("option", [option for option in OPTIONS if option != MAIN])
def test_an_option_is_tried_alone_and_beside_the_main_one(base, option):
    for start in (base, f"{base}+{MAIN}"):
        family, plain = FAMILIES[f"{start}+{option}"], FAMILIES[start]
        assert family.tuned_as == start
        assert [rung.name for rung in family.rungs] == [rung.name for rung in plain.rungs]
        rung = family.rungs[0].name
        assert family.loop != plain.loop or family.train(rung) != plain.train(rung)


def test_options_add_up():
    family = with_options(FAMILIES["none"], ["patience", "logloss"], "none")
    assert (family.loop.patience, family.loop.by) == (4, "logloss")
    assert (family.name, family.tuned_as) == ("none+patience+logloss", "none")
    assert with_options(FAMILIES["none"], [MAIN]).train("-").lr_plateau == "0.1"


def test_proximal_steps_are_taken_by_the_commands_optimiser():
    for name in ("group_lasso+plateau", "l2_proximal+plateau", "elastic_net+plateau"):
        family = FAMILIES[name]
        assert {family.train(rung.name).table_optimiser for rung in family.rungs} == {
            defaults_of("deepfm", "group_lasso")["table_optimiser"]
        }
    coupled = FAMILIES["l2_coupled+plateau"]
    assert (
        coupled.train("0.1").table_optimiser
        == defaults_of("deepfm", "l2_coupled")["table_optimiser"]
    )


def test_families_are_named_or_all():
    assert families([]) == tuple(FAMILIES.values())
    assert [family.name for family in families(["none", "l2_coupled"])] == ["l2_coupled", "none"]
    with pytest.raises(InputError, match="--variants: no 'lasso'; there are group_lasso"):
        families(["lasso"])


def test_strengths_are_named_as_they_are():
    for rung in FAMILIES["elastic_net+plateau"].rungs:
        group_lasso, l2 = map(float, rung.name.split(" + "))
        assert math.isclose(group_lasso, rung.train["group_lasso"]) and math.isclose(
            l2, rung.train["table_l2"]
        )
