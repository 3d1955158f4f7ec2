"""P-IQL: the reward model by hand, what IQL is given, and that it stops where it should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    assert_close,
    assert_same_bits,
    copy,
    finite_differences,
    float64,
    numpy_adam,
    numpy_feed_forward,
    numpy_q,
    plane,
    plane_preferences,
)

import rlzoo
from rlzoo import iql, p_iql

KEY = jax.random.key(51)
HYPER = p_iql.Hyper(reward_learning_rate=2e-2, actor_learning_rate=1e-2, critic_learning_rate=1e-2, reward_steps=6.0)
SMALL = p_iql.Config(hidden=(4, 3), batch_size=6)


def test_one_update_against_numpy():
    """The reward model and IQL in float64, with gradients by finite differences."""
    algo = p_iql.make(plane(), SMALL, plane_preferences(), HYPER)
    start = copy(rlzoo.train(algo, jax.random.key(54), 3)[0])  # in which no unit of the networks is dead
    after, metrics = rlzoo.resume(algo, copy(start), 1)
    task = algo.task
    row = np.asarray(jax.random.randint(jax.random.split(start.key)[1], (6,), 0, 40))  # the same comparisons
    index = np.concatenate([task.first[row], task.second[row]])
    obs, action, label = (np.asarray(x, np.float64) for x in (task.obs[index], task.action[index], task.label[row]))
    assert {0.0, 0.5, 1.0} <= set(label.tolist()), "choose another key"

    def loss(params):
        reward = numpy_feed_forward(params["params"], np.concatenate([obs, action], -1))[..., 0]
        first, second = np.split(reward.sum(1), 2)
        chance = 1 / (1 + np.exp(first - second))
        return -(label * np.log(chance) + (1 - label) * np.log(1 - chance)).mean()

    own = own_reward = float64(start.params.reward)
    reward = numpy_adam(own, finite_differences(loss, own), start.opt_state.reward, 2e-2)
    found = float64(after.params.reward)
    for one in (found, reward):  # the constant has no gradient but rounding errors, which Adam makes large
        one["params"]["head"]["bias"] = np.zeros(1)
    assert_close(found, reward, rtol=1e-5, atol=1e-5)
    assert float(metrics["loss/reward"][0]) == pytest.approx(loss(own), rel=1e-5)

    # IQL in the authors' order: rewards and advantages of before, V of the critics' target after its step.
    rows = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
    given = rows(numpy_feed_forward(own_reward["params"], np.concatenate([obs, action], -1))[:, :-1, 0])
    next_obs, obs, action = rows(obs[:, 1:]), rows(obs[:, :-1]), rows(action[:, :-1])
    params, target = float64(start.params.iql), float64(start.target)
    v = lambda value, obs: numpy_feed_forward(value["params"], obs)[:, 0]  # noqa: E731
    target_q = numpy_q(target, obs, action).min(0)

    def value_loss(value):
        error = target_q - v(value, obs)
        return (np.where(error < 0, 1 - HYPER.expectile, HYPER.expectile) * error**2).mean()

    weight = np.minimum(np.exp(HYPER.beta * (target_q - v(params.value, obs))), 100.0)

    def policy_loss(actor):
        mean = np.tanh(numpy_feed_forward(actor["mean"]["params"], obs))
        return (weight * ((mean - action) ** 2).sum(-1)).mean()

    def updated(loss, name, rate):
        own = getattr(params, name)
        return numpy_adam(own, finite_differences(loss, own), getattr(start.opt_state.iql, name), rate)

    value = updated(value_loss, "value", 1e-2)
    actor = updated(policy_loss, "actor", 1e-2 * 0.5 * (1 + np.cos(np.pi * 3 / HYPER.anneal_steps)))
    wanted = given + HYPER.gamma * v(value, next_obs)
    critics = updated(lambda critics: ((numpy_q(critics, obs, action) - wanted) ** 2).mean(-1).sum(), "critics", 1e-2)
    assert_close(after.params.iql, iql.Params(actor, critics, value), rtol=1e-4, atol=1e-5)
    moved = jax.tree.map(lambda old, new: (1 - HYPER.tau) * old + HYPER.tau * new, target, critics)
    assert_close(after.target, moved, rtol=1e-4, atol=1e-5)
    assert float(metrics["policy/weight"][0]) == pytest.approx(weight.mean(), rel=1e-4)


def test_the_reward_model_is_fixed_after_its_steps():
    algo = p_iql.make(plane(), SMALL, plane_preferences(), HYPER)
    six, _ = rlzoo.train(algo, KEY, 6)
    kept = copy(six.params)
    ten, _ = rlzoo.resume(algo, six, 4)
    assert_same_bits(ten.params.reward, kept.reward)
    assert not np.array_equal(*(jax.tree.leaves(x.iql.actor)[0] for x in (ten.params, kept)))


def test_it_finds_what_is_preferred():
    """Segments are preferred for actions near (0.5, -1.5): rewards are higher there, and the policy goes there."""
    data = plane_preferences(200, 4)
    wanted = jnp.array([0.5, -1.5])
    score = -(((data.action - wanted) / jnp.array([1.0, 3.0])) ** 2).sum((1, 2))
    data = data.replace(label=(score[data.second] > score[data.first]).astype(jnp.float32))
    config = p_iql.Config(hidden=(32,), batch_size=20)
    hyper = p_iql.Hyper(*[3e-3] * 3, reward_steps=500.0, anneal_steps=jnp.inf, gamma=0.0, beta=10.0, expectile=0.9)
    algo = p_iql.make(plane(), config, data, hyper)
    state, metrics = rlzoo.train(algo, KEY, 1500)
    assert float(metrics["policy/accuracy"][400:500].mean()) > 0.9
    found = algo.policy(algo.actor(state), data.obs[:, 0], KEY, True)
    start = algo.policy(algo.actor(rlzoo.init(algo, KEY)), data.obs[:, 0], KEY, True)
    away = [float(jnp.abs((x - wanted) / jnp.array([1.0, 3.0])).mean()) for x in (start, found)]
    assert away[1] < 0.5 * away[0], away


def test_bad_input():
    data = plane_preferences()
    with pytest.raises(ValueError, match="p_iql: segments of one step have no transitions"):
        p_iql.make(plane(), SMALL, data.replace(obs=data.obs[:, :1], action=data.action[:, :1]))
    with pytest.raises(ValueError, match="are 40 ties and no more"):
        p_iql.make(plane(), SMALL, data.replace(label=jnp.full(40, 0.5)))
    with pytest.raises(ValueError, match="P-IQL needs a bounded box"):
        p_iql.make(rlzoo.envs.make("gymnax/CartPole-v1"), SMALL, data)
