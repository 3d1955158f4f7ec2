"""Networks that mask actions by logits of -inf, or far below the others: 0 log 0 is 0 in losses and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import named_leaves

import rlzoo
from rlzoo import a2c, a3c, cpl, ga3c, ppo, sac
from rlzoo.algorithms.sac import soft_value, temperature_loss
from rlzoo.blocks.distributions import Categorical, finite
from rlzoo.data import About, collect, preferences
from rlzoo.envs.episodes import with_episodes
from rlzoo.types import Box, Discrete, Env

KEY = jax.random.key(3)
LOWS = np.float32([-np.inf, -1e9, np.finfo(np.float32).min])
ALLOWED = np.exp([0.3, -0.2]) / np.exp([0.3, -0.2]).sum()


@pytest.mark.parametrize("low", LOWS)
def test_entropy_and_soft_value_are_those_of_what_is_left(low):
    logits, q, alpha = jnp.array([0.3, -0.2, low]), jnp.array([[1.0, 2.0, 3.0]]), jnp.float32(4.0)
    assert float(Categorical(logits).entropy()) == pytest.approx(-(ALLOWED * np.log(ALLOWED)).sum(), rel=1e-5)

    def value(logits, alpha):
        log_prob = jax.nn.log_softmax(logits)[None]
        return soft_value(jnp.exp(log_prob), log_prob, q, alpha)[0]

    wanted = (ALLOWED * ([1.0, 2.0] - 4.0 * np.log(ALLOWED))).sum()
    assert float(value(logits, alpha)) == pytest.approx(wanted, rel=1e-5)

    # The gradients are those without the third action, and 0 along it.
    for function in (lambda x: Categorical(x).entropy(), lambda x: value(x, alpha)):
        found = jax.grad(function)(logits)
        numbers = [(function(logits.at[i].add(0.01)) - function(logits.at[i].add(-0.01))) / 0.02 for i in range(2)]
        np.testing.assert_allclose(found, [*numbers, 0.0], atol=1e-3)
    assert float(jax.grad(value, 1)(logits, alpha)) == pytest.approx(float(Categorical(logits).entropy()), rel=1e-5)

    excess = jax.grad(lambda x: temperature_loss(x, Categorical(logits).entropy(), 0.5))(0.0)
    assert float(excess) == pytest.approx(-(ALLOWED * np.log(ALLOWED)).sum() - 0.5, rel=1e-5)


def test_finite():
    x = jnp.array([-jnp.inf, -2e9, -1e9, 0.5])
    np.testing.assert_array_equal(finite(x), np.float32([-1e9, -1e9, -1e9, 0.5]))
    np.testing.assert_array_equal(jax.grad(lambda x: finite(x).sum())(x), np.ones(4))
    nobody = Categorical(jnp.full(3, -jnp.inf))
    assert (
        np.isfinite(nobody.entropy()) and np.isfinite(jax.grad(lambda x: Categorical(x).entropy())(nobody.logits)).all()
    )


def gates():
    """Three actions, of which one is forbidden at each step: the observation says which are allowed, and the mask's
    logit, a parameter. A forbidden action costs 1, so that returns other than 0 tell of one."""

    def look(key, params):
        allowed = 1.0 - jax.nn.one_hot(jax.random.randint(key, (), 0, 3), 3)
        return jnp.concatenate([allowed, params["low"][None]])

    def reset(key, params):
        obs = look(key, params)
        return obs, obs

    def step(key, obs, action, params):
        after = look(key, params)
        return after, after, obs[action] - 1.0, jnp.array(False)

    reset, step = with_episodes(reset, step, 5)
    space = Box(np.full(4, -np.inf, np.float32), np.full(4, np.inf, np.float32))
    return rlzoo.envs.make(Env("own/gates", reset, step, {"low": jnp.float32(0.0)}, space, Discrete(3), 5))


class Logits(nn.Module):
    """Blank rows, such as those of an empty queue, have no allowed action at all."""

    @nn.compact
    def __call__(self, obs):
        return jnp.where(obs[..., :3] > 0.5, nn.Dense(3)(nn.tanh(nn.Dense(8)(obs[..., :3]))), obs[..., 3:])


class PolicyAndValue(nn.Module):
    @nn.compact
    def __call__(self, obs):
        return Categorical(Logits()(obs)), nn.Dense(1)(obs[..., :3])[..., 0]


class Values(nn.Module):
    """Of masked actions -inf too."""

    @nn.compact
    def __call__(self, obs):
        return jnp.where(obs[..., :3] > 0.5, nn.Dense(3)(obs[..., :3]), -jnp.inf)


NET = {"network": PolicyAndValue()}
SMALL = {"num_envs": 4, "num_steps": 8}
MAKES = {
    "ppo": lambda env: ppo.make(
        env,
        ppo.Config(**SMALL, num_epochs=2, num_minibatches=2, normalise_obs=False, **NET),
        ppo.Hyper(entropy_coef=0.1, learning_rate=1e-2),
    ),
    "a2c": lambda env: a2c.make(env, a2c.Config(**SMALL, **NET), a2c.Hyper(entropy_coef=0.1)),
    "a3c": lambda env: a3c.make(env, a3c.Config(num_workers=4, **NET), a3c.Hyper(entropy_coef=0.1)),
    "ga3c": lambda env: ga3c.make(env, ga3c.Config(**SMALL, training_lag=2, **NET), ga3c.Hyper(entropy_coef=0.1)),
    "sac": lambda env: sac.make(
        env,
        sac.Config(num_envs=4, capacity=64, warmup=32, warmup_hold=2, batch_size=16, actor=Logits(), critic=Values()),
        sac.Hyper(target_entropy=0.5),
    ),
}


@pytest.mark.parametrize("name", MAKES)
def test_masked_actions_are_never_taken_and_all_stays_finite(name):
    """With the three masks side by side, in training, the warm-up included, and in evaluation."""
    algo = MAKES[name](gates())
    runs = rlzoo.sweep(algo, task={"low": jnp.asarray(LOWS)})
    start = rlzoo.init(runs, jax.random.split(KEY, 1))
    before = jax.tree.map(np.asarray, start.params)
    state, metrics = rlzoo.resume(runs, start, 6)
    for leaf, x in named_leaves((state.params, state.opt_state, metrics)):
        assert np.isfinite(x).all(), leaf
    assert any(jax.tree.leaves(jax.tree.map(lambda a, b: (a != np.asarray(b)).any(), before, state.params)))
    assert (metrics["episode/return_sum"] == 0.0).all() and metrics["episode/count"].sum() > 0
    assert name != "sac" or (state.replay.reward == 0.0).all()
    for deterministic in (True, False):
        episodes = rlzoo.evaluate(runs, runs.base.env, state, KEY, 3, runs.task, deterministic)
        assert (episodes.returns == 0.0).all()
    errors = rlzoo.value_error(runs, runs.base.env, state, KEY, 3, runs.task, deterministic=False)
    assert np.isfinite(errors).all()
    # The three masks mean the same: entropies are those of two actions, and so are the parameters.
    assert (metrics["policy/entropy"] < np.log(2.0) + 1e-3).all()
    for leaf, x in named_leaves(state.params):
        np.testing.assert_allclose(x[1:], np.broadcast_to(x[:1], x[1:].shape), rtol=1e-4, atol=1e-5, err_msg=leaf)


class Masked(nn.Module):
    @nn.compact
    def __call__(self, obs, keep=None):
        return jnp.where(obs[..., :3] > 0.5, nn.Dense(3)(obs), -jnp.inf)


@pytest.mark.parametrize("phase", ["cpl", "bc"])
def test_preferences_with_actions_that_the_policy_masks(phase, monkeypatch):
    """Random actions are forbidden ones too: of losers, of winners and of both; with and without a reference."""
    monkeypatch.setattr(cpl.networks, "FeedForward", lambda *_, **__: Masked())
    env = gates()
    drawn = preferences.segments(collect(env, None, KEY, 200, 4, about=About("gates")), 40, 3, KEY)
    said = preferences.compare(drawn, preferences.reward_score(drawn), 40, jax.random.key(5))
    said = said.replace(label=jnp.where(jnp.arange(40) % 5 == 0, 0.5, said.label))
    algo = cpl.make(env, cpl.Config(phase=phase, batch_size=16, reference=True, dropout=0.0), said)
    state, metrics = rlzoo.train(algo, KEY, 3)
    for leaf, x in named_leaves((state, metrics)):
        assert np.isfinite(x).all(), leaf
