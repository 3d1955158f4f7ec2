"""The ranges of hyperparameters: one form, held wherever a value is known; and names that lead to the right place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rlzoo
from rlzoo import cdsa, names, ppo, qarl, sac
from rlzoo.algorithms.hyper import Between, checked, ranges_of
from rlzoo.drivers import named

KEY, INF, NAN = jax.random.key(0), float("inf"), float("nan")
CLASSES = [*(module.Hyper for module in rlzoo.ALGORITHMS.values()), cdsa.Strength]
NUMBERS = ["-inf", "-1", "-1e-6", "0", "1e-6", "0.5", "1", "1.5", "1e30", "inf", "nan"]


@pytest.mark.parametrize(
    ("between", "text", "words", "inside"),
    [
        (Between(0.0, 1.0), "[0, 1]", "between 0 and 1", "0 1e-6 0.5 1"),
        (Between(0.0, 1.0, "[)"), "[0, 1)", "0 or more and below 1", "0 1e-6 0.5"),
        (Between(0.0, 1.0, "()"), "(0, 1)", "above 0 and below 1", "1e-6 0.5"),
        (Between(0.0, 1.0, "(]"), "(0, 1]", "above 0, up to 1", "1e-6 0.5 1"),
        (Between(0.0, INF, "(]"), "(0, inf]", "above 0; inf is allowed", "1e-6 0.5 1 1.5 1e30 inf"),
        (Between(0.0, INF, "[)"), "[0, inf)", "0 or more and finite", "0 1e-6 0.5 1 1.5 1e30"),
        (Between(-INF, INF, "()"), "(-inf, inf)", "a finite number", "-1 -1e-6 0 1e-6 0.5 1 1.5 1e30"),
        (Between(-INF, INF), "[-inf, inf]", "a number", " ".join(NUMBERS[:-1])),
        (
            Between(-INF, INF, "()", True),
            "(-inf, inf) or nan",
            "a finite number, or nan",
            "-1 -1e-6 0 1e-6 0.5 1 1.5 1e30 nan",
        ),
    ],
)
def test_a_range_holds_what_it_says(between, text, words, inside):
    assert (str(between), between.words()) == (text, words)
    assert [x for x in NUMBERS if between.holds(float(x))] == inside.split()
    np.testing.assert_array_equal(between.holds([float(x) for x in NUMBERS]), [x in inside.split() for x in NUMBERS])


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}")
def test_every_field_has_a_range_which_holds_its_default_and_is_said(cls):
    ranges, said = ranges_of(cls), named.said(cls)
    assert set(ranges) == set(cls._fields)
    checked(cls())
    for name, allowed in ranges.items():
        assert said[name].endswith(f"; {allowed}")
        outside = next((x for x in (-1.0, 2.0, INF, NAN) if not allowed.holds(x)), None)
        assert outside is not None, name
        with pytest.raises(ValueError, match=rf"hyper.{name}={outside:g}; it must be {allowed.words()} \(\w"):
            checked(cls()._replace(**{name: outside}))
        with pytest.raises(ValueError, match=rf"hyper.{name}={outside:g} of setting 1; it must be"):
            checked(cls()._replace(**{name: np.array([getattr(cls(), name), outside])}))


def test_presets_are_in_range():
    for module in rlzoo.ALGORITHMS.values():
        for preset in module.presets.values():
            checked(preset.hyper)


def test_numbers_are_held_wherever_they_are_known(tiny):
    hyper, state = tiny.hyper, rlzoo.init(tiny, KEY)
    wrong = hyper._replace(max_grad_norm=0.0)
    lanes = hyper._replace(gamma=jnp.array([0.9, 1.5]))
    for give, message in (
        (lambda: ppo.make(tiny.env, tiny.config, wrong), "hyper.max_grad_norm=0; it must be above 0; inf is allowed"),
        (lambda: rlzoo.init(tiny._replace(hyper=wrong), KEY), "hyper.max_grad_norm=0"),
        (lambda: rlzoo.train(tiny._replace(hyper=wrong), KEY, 1), "hyper.max_grad_norm=0"),
        (lambda: rlzoo.resume(tiny._replace(hyper=wrong), state, 1), "hyper.max_grad_norm=0"),
        (lambda: rlzoo.sweep(tiny, lanes), "hyper.gamma=1.5 of setting 1; it must be between 0 and 1 "),
        (lambda: rlzoo.grid(hyper, gamma=[0.9, -1.0]), "hyper.gamma=-1 of setting 1"),
        (lambda: rlzoo.sample(hyper, 4, clip_eps=[0.1, -0.1]), "clip_eps=-0.1 of setting 1; it must be above 0"),
        (lambda: rlzoo.sample(hyper, 4, gamma=rlzoo.Range(0.5, 2.0)), "gamma: high=2; it must be between 0 and 1"),
        (lambda: rlzoo.sample(hyper, 4, clip_eps=rlzoo.Range(0.0, 2.0)), "clip_eps: low=0; it must be above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            give()
    runs = rlzoo.sweep(tiny, rlzoo.grid(hyper, gamma=[0.9, 0.99]))
    with pytest.raises(ValueError, match="gamma: high=1.1; it must be between 0 and 1"):
        rlzoo.pbt(runs, jax.random.split(KEY, 1), 4, 2, {"gamma": rlzoo.Range(0.9, 1.1)})
    # Infinite where that has a meaning, and what is traced, pass.
    rlzoo.sweep(tiny, rlzoo.grid(hyper, anneal_steps=[INF, 1e6], target_kl=[INF]))
    traced = jax.jit(lambda gamma: rlzoo.sweep(tiny, hyper._replace(gamma=gamma)).num_hypers)
    assert traced(jnp.array([0.9, 1.5])) == 2


@pytest.mark.parametrize("given", [[1e-4, 1e-3], (1e-4, 1e-3), "1e-3", 1j, None, True, np.array(["a"])])
def test_what_is_no_number_is_named(tiny, given):
    message = "is a (list|tuple); give an array" if isinstance(given, list | tuple) else "it must be a number, or in"
    for give in (
        lambda: rlzoo.sweep(tiny, tiny.hyper._replace(learning_rate=given)),
        lambda: ppo.make(tiny.env, tiny.config, ppo.Hyper(learning_rate=given)),
        lambda: rlzoo.train(tiny._replace(hyper=tiny.hyper._replace(learning_rate=given)), KEY, 1),
    ):
        with pytest.raises(ValueError, match=f"hyper.learning_rate.*{message}"):
            give()


def test_nan_is_what_make_fills_in():
    pendulum = rlzoo.envs.make("gymnax/Pendulum-v1")
    algo = sac.make(pendulum, sac.Config(), sac.Hyper(target_entropy=NAN))
    assert algo.hyper.target_entropy == -1.0
    for hyper, message in (
        (rlzoo.grid(algo.hyper, target_entropy=[NAN, -1.0]), "is nan, where the algorithm has -1; start from"),
        (algo.hyper._replace(target_entropy=INF), "hyper.target_entropy=inf; it must be a finite number, or nan"),
    ):
        with pytest.raises(ValueError, match=message):
            rlzoo.sweep(algo, hyper)
    with pytest.raises(ValueError, match="hyper.target_entropy=nan; it must be a finite number"):
        rlzoo.init(algo._replace(hyper=sac.Hyper()), KEY)


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda: ppo.Hyper(lr=1), "unknown ppo.Hyper field 'lr'; it is called 'learning_rate' here"),
        (lambda: sac.Hyper(lr=1), "'actor_learning_rate' or 'critic_learning_rate' here"),
        (
            lambda: ppo.Hyper(num_envs=1),
            "unknown ppo.Hyper field 'num_envs'; 'num_envs' is structure, a field of ppo.C",
        ),
        (lambda: ppo.Hyper(n_envs=1), "'num_envs' is structure, a field of ppo.Config"),
        (lambda: ppo.Hyper()._replace(ent_coef=1), "it is called 'entropy_coef' here"),
        (lambda: ppo.Config(learning_rate=1), "'learning_rate' is a number, a field of ppo.Hyper"),
        (lambda: ppo.Config(lr=1), "unknown ppo.Config field 'lr'; 'learning_rate' is a number, a field of ppo.Hyper"),
        (lambda: ppo.Config(clip_range=1), "'clip_eps' is a number, a field of ppo.Hyper"),
        (lambda: ppo.Config(n_steps=1), "it is called 'num_steps' here"),
        (lambda: ppo.Config(net_arch=(8,)), "it is called 'hidden' here"),
        (lambda: ppo.Config(batch_size=64), "it is called 'num_minibatches' or 'num_steps' here"),
        (lambda: sac.Config(buffer_size=1), "it is called 'capacity' here"),
        (lambda: qarl.Config(buffer_size=1), "it is called 'capacity' here"),
        (lambda: cdsa.Strength(eta=1), "unknown cdsa.Strength field 'eta'; did you mean"),
        (lambda: rlzoo.grid(ppo.Hyper(), num_envs=[1]), "'num_envs' is structure: rlzoo.sweep_grid"),
        (lambda: rlzoo.grid(ppo.Hyper(), lr=[1]), "it is called 'learning_rate' here"),
        (lambda: rlzoo.grid(ppo.Hyper(), gamma=0.9), r"gamma=0.9; give a sequence of numbers, such as \[0.99\]"),
        (
            lambda: rlzoo.sample(ppo.Hyper(), 4, learning_rate=(1e-5, 1e-2)),
            r"a range or two choices; say rlzoo.Range\(1e-05",
        ),
        (lambda: rlzoo.sample(ppo.Hyper(), 4, seed=-1, gamma=[0.9]), "seed=-1; it must be a whole number from 0"),
        (
            lambda: rlzoo.a3c.Config(schedule_seed=2**32),
            "schedule_seed=4294967296; it must be a whole number from 0 to",
        ),
        (lambda: ppo.Config(normalise_obs="no"), "normalise_obs='no'; it must be True or False"),
        (lambda: ppo.Config(init_std="1"), "init_std='1'; it must be positive and finite"),
        (lambda: ppo.Config(init_std=INF), "init_std=inf; it must be positive and finite"),
        (lambda: ppo.Config(activation=None), "unknown activation 'None'"),
        (lambda: rlzoo.stac.Config(actor_dropout="a"), "actor_dropout='a'; it must be at least 0 and less than 1"),
        (lambda: rlzoo.grid(ppo.Hyper(), gamma=[]), r"gamma=\[\]; give a sequence of numbers"),
        (lambda: checked({"gamma": 0.9}), "hyper is a dict; it must be the algorithm's Hyper"),
    ],
)
def test_names_and_values_that_are_not_ours_lead_to_ours(give, message):
    with pytest.raises(ValueError, match=message):
        give()


def test_synonyms_are_no_names_of_fields_of_their_own_and_lead_to_fields():
    fields = {name for m in rlzoo.ALGORITHMS.values() for name in (*m.Config.__dataclass_fields__, *m.Hyper._fields)}
    assert {x for meant in names.SYNONYMS.values() for x in meant} <= fields


@pytest.mark.parametrize("config", [{"num_minibatches": [1, 7]}, {"nmu_envs": [2]}, {"learning_rate": [1e-3]}])
def test_a_structure_that_cannot_be_is_found_before_the_first_is_given(cartpole, config):
    with pytest.raises(ValueError, match=r"num_minibatches=7 does not divide|'num_envs'|is a number: rlzoo.grid"):
        rlzoo.sweep_grid(lambda c: ppo.make(cartpole, c), config, ppo.Config(num_envs=2, num_steps=8))


def test_more_than_memory_holds_is_refused_before_it_is_made(tiny):
    thousand = np.linspace(0.1, 0.9, 1000)
    many = {"gamma": thousand, "gae_lambda": thousand, "clip_eps": thousand, "value_coef": thousand}
    with pytest.raises(ValueError, match=r"1,000,000,000,000 settings of the grid take .* use [\d,]+ or fewer"):
        rlzoo.grid(tiny.hyper, **many)
    with pytest.raises(ValueError, match=r"10,000,000,000 settings to draw take .* use [\d,]+ or fewer"):
        rlzoo.sample(tiny.hyper, 10**10, gamma=rlzoo.Range(0.5, 0.9))
    with pytest.raises(ValueError, match=r"1,000,000,000,000 rows take"):
        rlzoo.data.collect(tiny.env, None, KEY, 10**12, 10)
    with pytest.raises(
        ValueError, match="num_updates=10000000000000; it must be 0 or more, whole, and 2147483647 or less"
    ):
        rlzoo.train(tiny, KEY, 10**13)
    for field, message in (
        ({"num_steps": 2**31}, "num_steps=2147483648; it must be 2,147,483,647 or less"),
        ({"hidden": (2**31,)}, "hidden=.*; it must be a tuple of positive whole numbers"),
        ({"num_steps": 2**30, "num_minibatches": 2**30 - 1, "num_envs": 1}, "does not divide num_envs"),
    ):
        with pytest.raises(ValueError, match=message):
            ppo.Config(**field)


@pytest.mark.parametrize("field", ["num_steps", "num_epochs"])
def test_a_call_whose_arrays_do_not_fit_is_refused_before_it_is_compiled(cartpole, monkeypatch, field):
    from rlzoo.drivers import memory

    small = {"num_envs": 2, "num_steps": 8, "num_epochs": 1, "num_minibatches": 1, "hidden": (4,)}
    algo = ppo.make(cartpole, ppo.Config(**small | {field: 10**7}))
    state = rlzoo.init(algo, KEY)
    monkeypatch.setattr(memory, "device_memory", lambda: 2**27)
    with pytest.raises(ValueError, match=r"ppo: a call of 1 updates computes arrays such as \[10000000"):
        rlzoo.resume(algo, state, 1)
