"""One's own networks, optimisers and schedules, in every algorithm's `Config`."""

import dataclasses
import math
from typing import get_type_hints

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_same_bits, plane, plane_dataset, plane_preferences
from test_contract import CASES, TINY_PPO

import rlzoo
from rlzoo import a2c, cpl, ga3c, mixed_ne, p_iql, ppo, prdc, sac, stac
from rlzoo.blocks import networks, optim
from rlzoo.blocks.distributions import Categorical, Normal
from rlzoo.drivers.train import float32
from rlzoo.files import plain

KEY = jax.random.key(3)
FIRST = {case.module: case for case in reversed(CASES.values())}  # of each algorithm
MODULES = {
    (module, field): kind
    for module in FIRST
    for field, kind in get_type_hints(module.Config).items()
    if "Module" in str(kind)
}
ALIKE = (a2c, ga3c, prdc, mixed_ne, p_iql)  # what makes their networks and optimisers is another's too
MOST = [pytest.param(module, marks=pytest.mark.slow) if module in ALIKE else module for module in FIRST]
named = lambda x: x.__name__.rpartition(".")[2] if hasattr(x, "__name__") else str(x)  # noqa: E731


def made(module, **fields):
    case = FIRST[module]
    config, hyper = dataclasses.replace(case.config, **fields), module.Hyper(**case.hyper)
    if case.env != "own/plane":
        return module.make(rlzoo.envs.make(case.env), config, hyper)
    return module.make(plane(), config, plane_preferences() if module in (cpl, p_iql) else plane_dataset(), hyper)


def shapes(algo):
    """Of a State at first, and after an update."""
    arguments = float32(algo.hyper), algo.task
    state = jax.eval_shape(algo.init, KEY, *arguments)
    return state, jax.eval_shape(algo.step, state, *arguments)[0]


class Wrong(nn.Module):
    @nn.compact
    def __call__(self, *x):
        return nn.Dense(77)(x[0])


class Like(nn.Module):
    """Two layers whose outputs have the shapes of another module's."""

    like: nn.Module

    @nn.compact
    def __call__(self, *x):
        rows = [nn.swish(nn.Dense(5)(y)) for y in x]
        return nn.Dense(self.like.features)(jnp.concatenate(rows, axis=-1))


def test_every_algorithm_takes_networks_and_an_optimiser():
    assert {module for module, _ in MODULES} == set(FIRST)
    assert all("optim" in module.Config.__dataclass_fields__ for module in FIRST)


@pytest.mark.parametrize(("module", "field"), MODULES, ids=named)
def test_a_network_is_checked_when_the_algorithm_is_made(module, field):
    with pytest.raises(ValueError, match=rf"config.{field} gives \[.*77\] on inputs .* is expected"):
        made(module, **{field: Wrong()})


@pytest.mark.parametrize("module", MOST, ids=named)
def test_networks_of_ones_own_are_those_that_learn(module, monkeypatch):
    """All of them at once, each of the shapes that the default one has, which is seen on the way."""
    seen, own = {}, networks.own

    def note(config, field, default, *args, **kwargs):
        seen[field] = default
        return own(config, field, default, *args, **kwargs)

    monkeypatch.setattr(networks, "own", note)
    made(module)
    assert set(seen) == {field for of, field in MODULES if of is module}
    fields = {field: Like(default) for field, default in seen.items() if hasattr(default, "features")}
    if isinstance(q_network := seen.get("network"), networks.QNetwork):
        fields = {"network": q_network.clone(hidden=(5,), activation="swish")}
    elif not fields:  # a policy and its value in one
        fields = {"network": networks.ActorCritic((4,), 2, True, (5,), "swish")}
    if module is rlzoo.cdsa:
        fields["score_network"] = Like(networks.MLP((), 4))
    algo = made(module, **fields)
    first, after = shapes(algo)
    assert jax.tree.structure(first) == jax.tree.structure(after)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(first.params)]
    if "network" in fields:
        assert {5} <= {x.shape[-1] for x in jax.tree.leaves(first.params)} and 16 not in {
            x.shape[-1] for x in jax.tree.leaves(first.params)
        }
    else:  # the default's layers are gone
        assert any("Dense" in name for name in names) and not any("Linear" in name for name in names)


def decayed(hyper, step):
    """Weights decay, by a rate that may be swept and that falls with time."""
    rate = getattr(hyper, "learning_rate", getattr(hyper, "critic_learning_rate", 1e-3))
    return optax.adamw(rate / (1.0 + step), weight_decay=0.1)


@pytest.mark.parametrize("module", MOST, ids=named)
def test_an_optimiser_of_ones_own_takes_the_steps(module):
    first, after = shapes(made(module, optim=decayed))
    assert jax.tree.structure(first) == jax.tree.structure(after)


@pytest.mark.parametrize("module", [ppo, sac], ids=named)
def test_what_is_no_optimiser_is_named(module):
    for bad, message in (
        (lambda hyper, step: 3, "config.optim gives int; it must give an optax.GradientTransformation"),
        (
            lambda hyper, step: optax.adam(1e-3 if hyper[0] > 0 else 0.0),
            "fails on traced numbers: .*; choose with jnp.w",
        ),
        ("adam", "config.optim is 'adam'; it must be a function"),
    ):
        with pytest.raises(ValueError, match=message):
            shapes(made(module, optim=bad))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("os.system", "config.network is 'os.system'; it must be a flax.linen.Module"),
        (networks.MLP, r"config.network is <class .*; call it, MLP\(\)"),
        (lambda obs: obs, "config.network is <function .*; it must be a flax.linen.Module"),
    ],
)
def test_what_is_no_network_is_named(cartpole, given, message):
    with pytest.raises(ValueError, match=message):
        ppo.make(cartpole, ppo.Config(network=given))


def test_parts_have_optimisers_of_their_own():
    algo = made(sac, optim=lambda hyper, step: {"critics": optax.sgd(hyper.critic_learning_rate)})
    state, _ = shapes(algo)
    assert len(jax.tree.leaves(state.opt_state.critics)) == 0 and jax.tree.leaves(state.opt_state.actor)
    with pytest.raises(ValueError, match="unknown part in config.optim 'critic'; did you mean 'critics'"):
        shapes(made(sac, optim=lambda hyper, step: {"critic": optax.sgd(1e-3)}))


def test_the_default_given_as_ones_own_is_the_default_swept_saved_and_loaded(cartpole, tmp_path):
    """Bit for bit, in a sweep of the rate; and another optimiser is another run."""

    def same(hyper, step):
        rate = optim.anneal(hyper.learning_rate, jnp.float32(64) * step, hyper.anneal_steps)
        return optim.adam(rate, hyper.max_grad_norm)

    def trained(given):
        algo = ppo.make(cartpole, dataclasses.replace(TINY_PPO, optim=given), ppo.Hyper(anneal_steps=1e3))
        runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, learning_rate=[1e-3, 1e-2]))
        return runs, rlzoo.train(runs, jax.random.split(KEY, 2), 2)[0]

    (_, default), (runs, own), (_, other) = (trained(x) for x in (None, same, decayed))
    assert_same_bits(own, default)
    assert not np.array_equal(jax.tree.leaves(other.params)[0], jax.tree.leaves(default.params)[0])
    rlzoo.save(tmp_path, runs, own)
    again = rlzoo.load(tmp_path, runs)
    assert_same_bits(again, own)


def test_schedules_fall_to_zero_linearly_or_by_a_cosine(cartpole):
    given = jnp.array([0.0, 250.0, 500.0, 1000.0, 2000.0])
    for name, wanted in (
        ("linear", [1.0, 0.75, 0.5, 0.0, 0.0]),
        ("cosine", [1.0, 0.5 + math.sqrt(0.125), 0.5, 0.0, 0.0]),
    ):
        rates = jax.vmap(optim.ANNEALING[name], (None, 0, None))
        np.testing.assert_allclose(rates(1.0, given, 1000.0), wanted, atol=1e-6)
        np.testing.assert_allclose(rates(1.0, given, jnp.inf), 1.0)
    with pytest.raises(ValueError, match="unknown anneal 'cosin'; did you mean 'cosine'"):
        ppo.Config(anneal="cosin")
    states = [
        rlzoo.train(
            ppo.make(cartpole, dataclasses.replace(TINY_PPO, anneal=name), ppo.Hyper(anneal_steps=200.0)), KEY, 3
        )[0]
        for name in ("linear", "cosine")
    ]
    assert not np.array_equal(*(jax.tree.leaves(state.params)[0] for state in states))


class Net(nn.Module):
    """A policy and a value that may be wrong."""

    outputs: int = 2
    distribution: str = "categorical"
    trailing: bool = False
    broken: bool = False

    @nn.compact
    def __call__(self, obs):
        head, value = nn.Dense(self.outputs)(obs), nn.Dense(1)(obs)
        head = head * jnp.log(-1.0) if self.broken else head
        pi = Categorical(head) if self.distribution == "categorical" else Normal(head, jnp.zeros(self.outputs))
        return pi, value if self.trailing else value[..., 0]


class Flat(Net):
    """It takes all but the first axis for the observation's."""

    @nn.compact
    def __call__(self, obs):
        rows = obs.reshape(obs.shape[0], -1)
        return Categorical(nn.Dense(2)(rows)), nn.Dense(1)(rows)[..., 0]


MUST = r"where \(Categorical\(logits \[\*B, 2\]\), \[\*B\]\) is expected"


@pytest.mark.parametrize(
    ("env", "network", "message"),
    [
        ("CartPole-v1", Net(3), rf"gives \(Categorical\(logits \[\*B, 3\]\), \[\*B\]\) on .*, {MUST}, .*: logits is"),
        ("CartPole-v1", Net(distribution="normal"), rf"{MUST}, .*: an action is float32\[3, 2\], not int32\[3\]"),
        ("CartPole-v1", Net(trailing=True), r": the value is float32\[3, 1\], not float32\[3\]"),
        ("CartPole-v1", Net(broken=True), "entropy is NaN at the start, on inputs in"),
        ("CartPole-v1", Flat(), r"fails on inputs f32\[2, 3, 4\]: .*; it must give"),
        ("CartPole-v1", networks.MLP((4,), 2), r"gives \[\*B, 2\] on .*: an action is missing"),
        ("Pendulum-v1", Net(), r"where \(Normal\(mean \[\*B, 1\], log_std \[1\]\), \[\*B\]\) is expected"),
        ("Pendulum-v1", Net(3, "normal"), r"an action is float32\[3, 3\], not float32\[3, 1\]"),
    ],
)
def test_what_a_policy_and_value_must_be(env, network, message):
    with pytest.raises(ValueError, match=f"config.network:? .*{message}"):
        ppo.make(rlzoo.envs.make(f"gymnax/{env}"), ppo.Config(network=network))


def test_a_network_that_fits_is_taken(cartpole):
    assert ppo.make(cartpole, ppo.Config(network=Net())).config.network == Net()


def test_own_networks_of_stac_drop_nothing():
    algo = made(stac, actor_network=networks.MLP((5,), 2), actor_dropout=0.5)
    shapes(algo)  # the default's masks are not given to it


def test_optimisers_of_one_text_with_other_numbers_are_others():
    """By what a run's record keeps of them, a run goes on with the optimiser that it began with."""

    def of(rate):
        return lambda hyper, step: optax.adam(rate)

    assert plain(of(1e-3)) == plain(of(1e-3)) != plain(of(1e-2))
