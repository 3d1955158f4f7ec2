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
    plane,
    plane_preferences,
)

import rlzoo
from rlzoo import iql, p_iql
from rlzoo.types import Transition

KEY = jax.random.key(51)
HYPER = p_iql.Hyper(reward_learning_rate=2e-2, actor_learning_rate=1e-2, critic_learning_rate=1e-2, reward_steps=6.0)
SMALL = p_iql.Config(hidden=(4, 3), batch_size=6)


def test_one_update_against_numpy_and_iql():
    """The reward model in float64; then IQL, which has its own test, on the transitions that it should get."""
    algo = p_iql.make(plane(), SMALL, plane_preferences(), HYPER)
    start = copy(rlzoo.train(algo, KEY, 3)[0])
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

    own = float64(start.params.reward)
    reward = numpy_adam(own, finite_differences(loss, own), start.opt_state.reward, 2e-2)
    found = float64(after.params.reward)
    for one in (found, reward):  # the constant has no gradient but rounding errors, which Adam makes large
        one["params"]["head"]["bias"] = np.zeros(1)
    assert_close(found, reward, rtol=1e-5, atol=1e-5)
    assert float(metrics["loss/reward"][0]) == pytest.approx(loss(own), rel=1e-5)

    given = numpy_feed_forward(float64(after.params.reward)["params"], np.concatenate([obs, action], -1))[:, :-1, 0]
    rows = lambda x: jnp.asarray(x, jnp.float32).reshape(-1, *x.shape[2:])  # noqa: E731
    never = jnp.zeros(12 * 3, bool)
    batch = Transition(rows(obs[:, :-1]), rows(action[:, :-1]), rows(given), never, never, rows(obs[:, 1:]))
    nets = iql.networks_of(plane(), SMALL, weights="orthogonal")
    adam = iql.optimisers(HYPER, 3)
    wanted = iql.iql_step(nets, adam, start.params.iql, start.target, start.opt_state.iql, batch, HYPER)
    assert_close(after.params.iql, wanted[0], rtol=1e-4, atol=1e-5)
    assert_close(after.target, wanted[1], rtol=1e-4, atol=1e-5)


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
