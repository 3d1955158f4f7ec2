"""IQL against NumPy: one whole update with gradients by finite differences, and its losses by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    assert_close,
    copy,
    finite_differences,
    float64,
    numpy_adam,
    numpy_batch,
    numpy_feed_forward,
    numpy_q,
    plane,
    plane_dataset,
)

import rlzoo
from rlzoo import iql

KEY = jax.random.key(41)
HYPER = iql.Hyper(
    actor_learning_rate=1e-2,
    critic_learning_rate=2e-2,
    anneal_steps=10.0,
    gamma=0.9,
    tau=0.1,
    expectile=0.8,
    beta=1.4,
    reward_scale=2.0,
    reward_shift=-0.3,
)


@pytest.mark.parametrize("head", ["normal", "deterministic"])
def test_one_update_against_numpy(head):
    algo = iql.make(plane(), iql.Config(batch_size=40, hidden=(4, 3), head=head), plane_dataset(), HYPER)
    start = copy(rlzoo.train(algo, KEY, 3)[0])
    after, metrics = rlzoo.resume(algo, copy(start), 1)
    rows = np.asarray(jax.random.randint(jax.random.split(start.key)[1], (40,), 0, 200))  # the same minibatch
    obs, action, next_obs, reward, terminated = numpy_batch(plane_dataset(), rows, HYPER)
    assert terminated.any()
    params, target = float64(start.params), float64(start.target)

    def v(value, obs):
        return numpy_feed_forward(value["params"], obs)[:, 0]

    target_q = numpy_q(target, obs, action).min(0)

    def value_loss(value):
        error = target_q - v(value, obs)
        return (np.where(error < 0, 0.2, 0.8) * error**2).mean()

    def updated(loss, name, rate):
        own = getattr(params, name)
        return numpy_adam(own, finite_differences(loss, own), getattr(start.opt_state, name), rate)

    value = updated(value_loss, "value", 2e-2)
    weight = np.minimum(np.exp(1.4 * (target_q - v(value, obs))), 100.0)

    def policy_loss(actor):
        mean = np.tanh(numpy_feed_forward(actor["mean"]["params"], obs))
        if head == "deterministic":
            return (weight * ((mean - action) ** 2).sum(-1)).mean()
        std = np.exp(actor["log_std"])
        log_prob = (-0.5 * ((action - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)).sum(-1)
        return -(weight * log_prob).mean()

    actor = updated(policy_loss, "actor", 1e-2 * 0.5 * (1 + np.cos(np.pi * 3 / 10)))
    wanted = reward + 0.9 * (1 - terminated) * v(value, next_obs)
    critics = updated(lambda critics: ((numpy_q(critics, obs, action) - wanted) ** 2).mean(-1).sum(), "critics", 2e-2)
    assert_close(after.params, iql.Params(actor, critics, value), rtol=1e-5, atol=1e-5)
    moved = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, target, critics)
    assert_close(after.target, moved, rtol=1e-5, atol=1e-5)
    assert float(metrics["loss/value"][0]) == pytest.approx(value_loss(params.value), rel=1e-4)
    assert float(metrics["policy/weight"][0]) == pytest.approx(weight.mean(), rel=1e-4)


def test_an_expectile_is_the_least_of_its_loss():
    """Half is the mean; towards one it goes to the greatest."""
    data = jax.random.normal(KEY, (2000,))
    found = []
    for expectile in (0.5, 0.7, 0.99):
        v = jnp.zeros(())
        for _ in range(400):
            v = v - 0.5 * jax.grad(lambda v: iql.expectile_loss(data - v, expectile).mean())(v)  # noqa: B023
        found.append(float(v))
    assert found[0] == pytest.approx(float(data.mean()), abs=1e-3)
    assert found[0] < found[1] < found[2] < float(data.max())
    above, below = (data - found[1]).clip(0).sum(), (found[1] - data).clip(0).sum()
    assert float(0.7 * above) == pytest.approx(float(0.3 * below), rel=1e-2)


def test_weights_are_bounded_and_constant():
    weight = iql.advantage_weight(jnp.array([-1.0, 0.0, 9.0]), 3.0)
    np.testing.assert_allclose(weight, [np.exp(-3.0), 1.0, 100.0], rtol=1e-6)
    assert jax.grad(lambda x: iql.advantage_weight(x, 3.0))(0.1) == 0.0


def test_it_finds_the_better_actions():
    """Rewards by the action's nearness to a wanted one: the policy goes there from uniformly random data."""
    dataset = plane_dataset()
    wanted = jnp.array([0.5, -1.5])
    reward = -(((dataset.action - wanted) / jnp.array([1.0, 3.0])) ** 2).sum(-1)
    dataset = dataset.replace(reward=reward, terminated=jnp.ones(200, bool))
    config = iql.Config(batch_size=64, hidden=(32,))
    hyper = iql.Hyper(
        actor_learning_rate=3e-3, critic_learning_rate=3e-3, anneal_steps=jnp.inf, expectile=0.9, beta=10.0
    )
    algo = iql.make(plane(), config, dataset, hyper)
    state, _ = rlzoo.train(algo, KEY, 1500)
    found = algo.policy(algo.actor(state), dataset.obs, KEY, True)
    assert float(jnp.abs((found - wanted) / jnp.array([1.0, 3.0])).mean()) < 0.2
