"""MixedNE-LD: one gradient step against NumPy, Langevin dynamics, and what is played and kept."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
    assert_close,
    assert_same_bits,
    finite_differences,
    float64,
    numpy_adam,
    numpy_feed_forward,
    numpy_q,
    numpy_squashed,
    plane,
)

import rlzoo
from rlzoo.algorithms import mixed_ne
from rlzoo.blocks import optim
from rlzoo.drivers.train import float32
from rlzoo.types import Transition

KEY = jax.random.key(21)
HYPER = mixed_ne.Hyper(
    actor_learning_rate=1e-2,
    critic_learning_rate=2e-2,
    temperature_learning_rate=3e-2,
    gamma=0.9,
    tau=0.1,
    target_entropy=-2.0,
    init_temperature=0.3,
    delta=0.25,
)
SMALL = mixed_ne.Config(batch_size=8, capacity=90, warmup=18, actor_start=0, hidden=(4, 3))
SCALE = 2.0  # of actions in these minibatches


@pytest.fixture(scope="module")
def algo():
    return mixed_ne.make(plane(), SMALL, HYPER)


def batch_of(rows=8):
    keys = jax.random.split(KEY, 4)
    obs, next_obs = (jax.random.normal(k, (rows, 2)) for k in keys[:2])
    ended, action = jnp.arange(rows) % 3 == 0, jax.random.uniform(keys[2], (rows, 2), minval=-SCALE, maxval=SCALE)
    return Transition(obs, action, jax.random.normal(keys[3], (rows,)), ended, jnp.arange(rows) % 3 == 1, next_obs)


def start_of(algo):
    """Players, critics and targets that all differ."""
    state = rlzoo.init(algo, KEY)
    return state.params, rlzoo.init(algo, jax.random.key(2)).target, state.opt_state


@pytest.fixture(scope="module")
def step_of(algo):
    """`gradient_step` from (params, target, opt_state), compiled."""
    nets = mixed_ne.networks_of(algo.env, algo.config)
    scale = lambda action: SCALE * action  # noqa: E731
    step = jax.jit(lambda *arguments: mixed_ne.gradient_step(nets, *arguments[:-1], scale, arguments[-1]))
    return lambda start, batch, hyper=HYPER, acts=True: step(*start, batch, KEY, float32(hyper), jnp.array(acts))


def test_one_gradient_step_against_numpy(algo, step_of):
    """Both policies from the same parameters, critics behind them; without noise, critics to 1e-5."""
    hyper, batch, start = HYPER._replace(noise=0.0), batch_of(), start_of(algo)
    after, after_target, _, metrics = step_of(start, batch, hyper)
    keys = jax.random.split(KEY, 6)
    noise = [np.asarray(jax.random.normal(keys[i], (8, 2)), np.float64) for i in (0, 1, 4, 5)]
    (params, target), opt_state = map(float64, start[:2]), start[2]
    obs, next_obs, action = (np.asarray(x, np.float64) for x in (batch.obs, batch.next_obs, batch.action))

    def sample(actor, x, noise):
        mean, log_std = (numpy_feed_forward(actor[name]["params"], x) for name in ("mean", "log_std"))
        return numpy_squashed(mean, np.exp(np.clip(log_std, -20, 2)), noise)

    def mixed_q(critics, obs, action, disturbance):
        return numpy_q(critics, obs, SCALE * (0.75 * action + 0.25 * disturbance)).min(0)

    now = [sample(actor, obs, draw) for actor, draw in zip(params.actors, noise[:2], strict=True)]

    def protagonist_loss(actor):
        action, log_prob = sample(actor, obs, noise[0])
        return (0.3 * log_prob - mixed_q(params.critics, obs, action, now[1][0])).mean()

    def adversary_loss(actor):
        disturbance, log_prob = sample(actor, obs, noise[1])
        return (0.3 * log_prob + mixed_q(params.critics, obs, now[0][0], disturbance)).mean()

    for role, loss in enumerate((protagonist_loss, adversary_loss)):
        grads = finite_differences(loss, params.actors[role])
        leaves = jax.tree.leaves(params.actors[role])
        moved = [x - 1e-2 * g / (np.sqrt(0.001 * g**2) + 1e-8) for x, g in zip(leaves, grads, strict=True)]
        # Where RMSProp's first step divides a gradient by its own size, a tiny one has no digits to compare.
        for found, wanted, g in zip(jax.tree.leaves(after.actors[role]), moved, grads, strict=True):
            sure = np.abs(g) > 1e-5
            np.testing.assert_allclose(np.asarray(found)[sure], wanted[sure], rtol=1e-4, atol=1e-4)
        assert sure.any()
    warmer = []
    for role, state in enumerate(opt_state.log_temperatures):
        grad = -(now[role][1] - 2.0).mean()
        warmer.append(numpy_adam(params.log_temperatures[role], [grad], state, 3e-2))
        np.testing.assert_allclose(after.log_temperatures[role], warmer[role], rtol=1e-5)

    actors = float64(after.actors)  # as they are, digits and all
    next_action, next_log_prob = sample(actors.protagonist, next_obs, noise[2])
    next_disturbance, _ = sample(actors.adversary, next_obs, noise[3])
    soft = mixed_q(target, next_obs, next_action, next_disturbance) - np.exp(warmer[0]) * next_log_prob
    wanted = np.asarray(batch.reward, np.float64) + 0.9 * (1 - np.asarray(batch.terminated)) * soft

    def critic_loss(critics):
        return ((numpy_q(critics, obs, action) - wanted) ** 2).mean(-1).sum()

    critics = numpy_adam(params.critics, finite_differences(critic_loss, params.critics), opt_state.critics, 2e-2)
    assert_close(after.critics, critics, rtol=1e-5, atol=1e-5)
    assert float(metrics["loss/critic"]) == pytest.approx(critic_loss(params.critics), rel=1e-4)
    assert float(metrics["loss/policy"]) == pytest.approx(protagonist_loss(params.actors.protagonist), rel=1e-4)
    assert float(metrics["loss/adversary"]) == pytest.approx(adversary_loss(params.actors.adversary), rel=1e-4)
    assert_close(after_target, jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, target, critics), atol=1e-5)


def test_before_their_start_policies_and_temperatures_rest(algo, step_of):
    start, batch = start_of(algo), batch_of()
    after, _, opt_state, _ = step_of(start, batch, acts=False)
    assert_same_bits((after.actors, after.log_temperatures), (start[0].actors, start[0].log_temperatures))
    assert_same_bits((opt_state.actors, opt_state.log_temperatures), (start[2].actors, start[2].log_temperatures))
    assert int(opt_state.critics[0].count) == 1 and not np.array_equal(*map(first_leaf, (after.critics, start[1])))


def first_leaf(tree):
    return jax.tree.leaves(tree)[0]


def test_langevin_dynamics_by_hand():
    """Against its formula with the draws it says it takes, over three steps; and without noise optax's RMSProp."""
    params, rate, decay = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}, 0.01, 0.9
    state, plain, plain_state = optim.langevin_init(params), params, optim.langevin_init(params)
    rmsprop = optax.rmsprop(rate, decay, 1e-8, initial_scale=0.0, eps_in_sqrt=False)
    wanted_plain, rmsprop_state = params, rmsprop.init(params)
    square, wanted = jax.tree.map(jnp.zeros_like, params), params
    for key in jax.random.split(KEY, 3):
        grads = jax.tree.map(lambda x: jax.random.normal(key, x.shape) + 1.0, params)  # noqa: B023
        draws = optax.tree.random_like(key, params, jax.random.normal)
        square = jax.tree.map(lambda v, g: decay * v + (1 - decay) * g**2, square, grads)
        wanted = jax.tree.map(
            lambda x, g, v, z: x - rate * g / np.sqrt(v) + 0.3 * np.sqrt(2 * rate / np.sqrt(v)) * z,
            wanted,
            grads,
            square,
            draws,
        )
        params, state = optim.langevin(params, state, grads, key, rate, decay, 0.3)
        plain, plain_state = optim.langevin(plain, plain_state, grads, key, rate, decay, 0.0)
        wanted_plain, rmsprop_state = optim.descend(rmsprop, wanted_plain, rmsprop_state, grads)
    assert_close(params, wanted, rtol=1e-5, atol=1e-6)
    assert_close(plain, wanted_plain, rtol=1e-5, atol=1e-6)
    assert int(state.steps) == 3


def test_langevin_dynamics_sample_from_what_they_should():
    """On x^2 / 2 a long chain's variance is that of exp(-x^2 / (2 noise^2)), noise^2, whatever the preconditioner.

    With decay 1 - 1e-4 the preconditioner moves from 0.25 to 0.29 only; were it constant, an Euler step of size h had a
    variance of noise^2 / (1 - h / 2).
    """
    start = jax.random.normal(KEY, (2_000,))

    def one(carry, key):
        x, state = carry
        x, state = optim.langevin(x, state, x, key, 0.02, 0.9999, 0.7)
        return (x, state), jnp.mean(x**2)

    state = optim.Langevin(jnp.int32(0), jnp.full(2_000, 0.25))
    _, seen = jax.lax.scan(one, (start, state), jax.random.split(KEY, 2_000))
    error = 4 * 0.49 * np.sqrt(2 / 2_000)
    assert float(seen[-500:].mean()) == pytest.approx(0.49 / (1 - 0.5 * 0.02 / 0.5), abs=error)


def test_the_noise_decays(algo, step_of):
    """sigma_n = sigma_0 (1 - d)^(n / 2): a step's spread with the same gradient, noise and preconditioner."""
    start, batch = start_of(algo), batch_of()
    hyper = HYPER._replace(noise=0.5, noise_decay=0.1)

    def spread(steps):
        actors = mixed_ne.Players(*(x._replace(steps=jnp.int32(steps)) for x in start[2].actors))
        noisy = step_of((*start[:2], start[2]._replace(actors=actors)), batch, hyper)[0]
        still = step_of(start, batch, hyper._replace(noise=0.0))[0]
        return jax.tree.map(lambda x, y: x - y, noisy.actors, still.actors)

    first, fifth = map(spread, (0, 4))
    assert_close(fifth, jax.tree.map(lambda x: 0.9**2 * x, first), rtol=1e-2, atol=1e-4)
    assert float(jnp.abs(first_leaf(first)).max()) > 0.01


def test_what_the_replay_holds():
    """Mixtures as they were executed: all the adversary's share at delta 1, none of it at delta 0."""
    algo = mixed_ne.make(plane(), replace(SMALL, num_envs=5, warmup=60), HYPER)
    runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, delta=[0.0, 0.25, 1.0]))
    state = rlzoo.init(runs, KEY[None])
    half = np.array([1.0, 3.0])
    none, some, all_ = (np.asarray(state.replay.action[i, 0, :60]) / half for i in range(3))
    first = slice(5)  # of all environments, in the same states by the same draws
    np.testing.assert_allclose(some[first], (0.75 * none + 0.25 * all_)[first], atol=1e-5)
    assert np.abs(none).max() <= 1.00001 and np.abs(none - all_).max() > 0.5
    moved = (np.asarray(state.replay.next_obs) - np.asarray(state.replay.obs))[1, 0, :60] / [0.5, 0.2]
    assert np.abs((moved - half * some).mean(0)).max() < 0.15


def test_evaluation_is_of_the_protagonist_alone(algo):
    state, _ = rlzoo.train(algo, KEY, 3)
    louder = state.params.actors._replace(adversary=jax.tree.map(lambda x: x + 1.0, state.params.actors.adversary))
    changed = state._replace(params=state.params._replace(actors=louder))
    assert_same_bits(*(rlzoo.evaluate(algo, algo.env, x, KEY, 8).returns for x in (state, changed)))


@pytest.mark.slow
def test_it_learns_pendulum():
    """Each of four seeds swings it up and holds it, after 20,000 steps: one that hangs has -1,200 and less."""
    algo = mixed_ne.make(rlzoo.envs.make("gymnax/Pendulum-v1"), *mixed_ne.presets["pendulum"])
    runs = rlzoo.sweep(algo)
    state, _ = rlzoo.train(runs, jax.random.split(KEY, 4), rlzoo.updates_for(runs, 19_980))
    returns = np.asarray(rlzoo.evaluate(runs, algo.env, state, KEY, 32).returns).mean(-1)
    assert returns.shape == (1, 4) and (returns > -400.0).all()


def test_bad_input():
    with pytest.raises(ValueError, match="discrete, 2 actions; MixedNE-LD needs a bounded box"):
        mixed_ne.make(rlzoo.envs.make("gymnax/CartPole-v1"))
    with pytest.raises(ValueError, match="capacity=3000 never holds more than the actor_start=5000"):
        mixed_ne.Config(capacity=3_000)
