"""PQN against NumPy: one whole update with gradients by finite differences; dqn.md, section 4 and check 6."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_close, copy, finite_differences, float64

import rlzoo
from rlzoo import pqn
from rlzoo.algorithms.ppo import random_order
from rlzoo.blocks import returns

KEY = jax.random.key(10)
SMALL = {"num_envs": 3, "num_steps": 6, "num_epochs": 1, "num_minibatches": 2, "hidden": (4,)}
HYPER = pqn.Hyper(
    learning_rate=1e-2,
    anneal_steps=1e3,
    gamma=0.9,
    q_lambda=0.7,
    epsilon_steps=90.0,
    reward_scale=0.5,
    max_grad_norm=0.5,
)


def q_of(params, obs):
    """QNetwork with LayerNorm in NumPy."""
    layers = params["params"]
    x = obs @ layers["Linear_0"]["kernel"] + layers["Linear_0"]["bias"]
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    x = np.maximum(x * layers["LayerNorm_0"]["scale"] + layers["LayerNorm_0"]["bias"], 0.0)
    return x @ layers["Linear_1"]["kernel"] + layers["Linear_1"]["bias"]


def lambda_return(reward, terminated, truncated, next_best, gamma, lam):
    """Eq. 9 as it is written, backwards in time."""
    found = np.zeros_like(reward)
    for t in reversed(range(len(reward))):
        last = terminated[t] | truncated[t] | (t == len(reward) - 1)
        going = next_best[t] if t == len(reward) - 1 else lam * found[t + 1] + (1 - lam) * next_best[t]
        found[t] = reward[t] + gamma * (1 - terminated[t]) * np.where(last, next_best[t], going)
    return found


def test_one_update_against_numpy():
    algo = pqn.make(rlzoo.envs.make("gymnax/CartPole-v1"), pqn.Config(**SMALL), HYPER)
    start = copy(rlzoo.train(algo, KEY, 3)[0])  # so that RAdam's averages are not those of the start
    after, metrics = rlzoo.resume(algo, copy(start), 1)
    _, act_key, shuffle_key = jax.random.split(start.key, 3)

    # The rollout, by the policy of the start at the clock's epsilon.
    epsilon = max(0.2, 1.0 - 0.8 * 3 * 18 / 90.0)
    assert float(metrics["policy/epsilon"][0]) == pytest.approx(epsilon) and 0.2 < epsilon < 1.0
    env, envs, rows = algo.env, start.envs, []
    actor = pqn.Actor(start.params, jnp.float32(epsilon))
    state, obs = envs.state, envs.obs
    for key in jax.random.split(act_key, 6):
        own_key, env_key = jax.random.split(key)
        action = algo.policy(actor, obs, own_key)
        state, now = jax.vmap(env.step, (0, 0, 0, None))(jax.random.split(env_key, 3), state, action, env.params)
        rows.append((obs, action, now.reward, now.terminated, now.truncated, now.next_obs))
        obs = now.obs
    np.testing.assert_allclose(obs, after.envs.obs, rtol=1e-5, atol=1e-6)
    obs, action, reward, terminated, truncated, next_obs = (
        np.asarray(jnp.stack(x), np.float64) for x in zip(*rows, strict=True)
    )
    terminated, truncated = terminated.astype(bool), truncated.astype(bool)
    assert terminated.any()

    params = float64(start.params)
    target = lambda_return(0.5 * reward, terminated, truncated, q_of(params, next_obs).max(-1), 0.9, 0.7)
    flat = [x.reshape(18, *x.shape[2:]) for x in (obs, action.astype(int), target)]
    order = np.asarray(random_order(jax.random.split(shuffle_key, 1)[0], 18)).reshape(2, 9)
    errors, opt_state = [], start.opt_state
    radam = optax.chain(optax.clip_by_global_norm(0.5), optax.radam(1e-2 * (1 - 54 / 1e3)))
    for batch in order:
        obs, action, target = (x[batch] for x in flat)

        def loss(params):
            return 0.5 * np.mean((q_of(params, obs)[np.arange(9), action] - target) ** 2)  # noqa: B023

        errors.append(loss(params))
        grads = jax.tree.unflatten(jax.tree.structure(params), finite_differences(loss, params))
        updates, opt_state = radam.update(jax.tree.map(jnp.float32, grads), opt_state, params)
        params = float64(optax.apply_updates(params, updates))
    assert float(metrics["loss/critic"][0]) == pytest.approx(np.mean(errors), rel=1e-4)
    assert_close(after.params, params, rtol=1e-4, atol=2e-5)
    found, _ = algo.value(after, HYPER, jnp.float32(flat[0]), jnp.asarray(flat[1]))  # in reward units
    np.testing.assert_allclose(0.5 * found, q_of(params, flat[0])[np.arange(18), flat[1]], rtol=1e-3, atol=1e-4)


def test_the_return_is_the_one_step_target_at_0_and_the_longest_at_1():
    rng = np.random.default_rng(0)
    reward, next_best = rng.normal(size=(2, 7, 2))
    terminated, truncated = np.zeros((2, 7, 2), bool)
    terminated[2, 0], truncated[4, 1] = True, True
    best = np.concatenate([rng.normal(size=(1, 2)), next_best[:-1]])
    best[3, 0], best[5, 1] = 5.0, -5.0  # of other episodes: nothing of them may count

    def ours(lam):
        return best + np.asarray(
            returns.gae(*map(jnp.asarray, (reward, terminated, truncated, best, next_best)), 0.9, lam)
        )

    for lam in (0.0, 0.6, 1.0):
        found = lambda_return(reward, terminated, truncated, next_best, 0.9, lam)
        np.testing.assert_allclose(ours(lam), found, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours(0.0), reward + 0.9 * ~terminated * next_best, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours(1.0)[2, 0], reward[2, 0], rtol=1e-5)  # terminated: from nothing
    np.testing.assert_allclose(ours(1.0)[4, 1], reward[4, 1] + 0.9 * next_best[4, 1], rtol=1e-4)  # truncated: next_obs
    longest = sum(0.9**k * reward[5 + k, 1] for k in range(2)) + 0.9**2 * next_best[6, 1]
    np.testing.assert_allclose(ours(1.0)[5, 1], longest, rtol=1e-4)


def test_bad_input():
    with pytest.raises(ValueError, match="its actions are a box; PQN needs discrete ones"):
        pqn.make(rlzoo.envs.make("gymnax/Pendulum-v1"))
    with pytest.raises(ValueError, match="num_minibatches=7 does not divide num_envs"):
        pqn.Config(num_minibatches=7)
