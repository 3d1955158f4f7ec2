"""Tiny environments with known answers, for every algorithm that learns online: it must find the value, not "go up"."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rlzoo
from rlzoo import a2c, a3c, ga3c, ppo
from rlzoo.blocks import networks

GAMMA = 0.9


class Learner(NamedTuple):
    make: Any  # env -> Algorithm
    updates: int
    value: Any  # (algo, state, obs [B, 1]) -> [B]


def _ppo(env):
    config = ppo.Config(
        num_envs=16,
        num_steps=16,
        num_epochs=4,
        num_minibatches=4,
        hidden=(32,),
        normalise_obs=False,
        normalise_reward=False,
    )
    return ppo.make(env, config, ppo.Hyper(learning_rate=5e-3, gamma=GAMMA, anneal_steps=16 * 16 * 150))


def _a2c(env):
    config = a2c.Config(num_envs=16, num_steps=16, hidden=(32,), optimiser="adam")
    return a2c.make(env, config, a2c.Hyper(learning_rate=1e-2, gamma=GAMMA, anneal_steps=16 * 16 * 800))


def _a3c(env):
    config = a3c.Config(num_workers=16, t_max=16, hidden=(32,))
    return a3c.make(env, config, a3c.Hyper(learning_rate=1e-3, gamma=GAMMA, anneal_steps=16 * 16 * 800, eps=1e-3))


def _ga3c(env):
    config = ga3c.Config(num_envs=16, num_steps=16, hidden=(32,))
    return ga3c.make(env, config, ga3c.Hyper(learning_rate=3e-3, gamma=GAMMA, anneal_steps=16 * 16 * 800))


def _value(algo, state, obs):
    config = algo.config
    network = networks.actor_critic(algo.env, config.hidden, config.activation, config.init_std)
    return network.apply(state.params, obs)[1]


LEARNERS = {
    "a2c": Learner(_a2c, 800, _value),
    "a3c": Learner(_a3c, 800, _value),
    "ga3c": Learner(_ga3c, 800, _value),
    "ppo": Learner(_ppo, 150, _value),
}
CONTINUOUS = (False, True)


def learn(learner, name, continuous):
    algo = learner.make(rlzoo.envs.make(f"probe/{name}", continuous=continuous))
    state, _ = rlzoo.train(algo, jax.random.key(0), learner.updates)
    return algo, state


@pytest.mark.parametrize("continuous", CONTINUOUS, ids=["discrete", "continuous"])
@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("constant-reward", {0.0: 1.0}),
        ("reward-by-obs", {-1.0: -1.0, 1.0: 1.0}),
        ("delayed-reward", {0.0: GAMMA, 1.0: 1.0}),
        ("truncation-only", {0.0: 1.0 / (1.0 - GAMMA)}),  # 4.1 if the time limit were taken for a death
        ("both-flags", {0.0: 1.0}),  # 10 if the truncation were to win
    ],
)
@pytest.mark.parametrize("learner", LEARNERS)
def test_value(learner, name, answers, continuous):
    algo, state = learn(LEARNERS[learner], name, continuous)
    obs = jnp.array(list(answers))[:, None]
    found = np.asarray(LEARNERS[learner].value(algo, state, obs))
    np.testing.assert_allclose(found, list(answers.values()), rtol=0.03, atol=0.03)


@pytest.mark.parametrize("continuous", CONTINUOUS, ids=["discrete", "continuous"])
@pytest.mark.parametrize(("name", "wanted"), [("reward-by-action", {0.0: 1}), ("reward-by-both", {-1.0: -1, 1.0: 1})])
@pytest.mark.parametrize("learner", LEARNERS)
def test_policy(learner, name, wanted, continuous):
    algo, state = learn(LEARNERS[learner], name, continuous)
    obs = jnp.array(list(wanted))[:, None]
    action = np.asarray(algo.policy(algo.actor(state), obs, jax.random.key(1), deterministic=True)).reshape(-1)
    signed = action if continuous else 2 * action - 1
    assert (np.sign(signed) == list(wanted.values())).all() and (np.abs(signed) > 0.9).all()
    returns = rlzoo.evaluate(algo, algo.env, state, jax.random.key(2), 64).returns
    assert float(returns.mean()) > 0.9


@pytest.mark.parametrize("learner", LEARNERS)
def test_time_limit_is_no_death_in_every_lane_of_a_sweep(learner):
    """The same probe vmapped over gamma and over the reward's scale, a parameter of the environment."""
    env = rlzoo.envs.make("probe/truncation-only")
    algo = LEARNERS[learner].make(env)
    gammas, scales = jnp.array([0.5, 0.9]), jnp.array([2.0, 1.0])
    runs = rlzoo.sweep(algo, algo.hyper._replace(gamma=gammas), {"scale": scales})
    state, _ = rlzoo.train(runs, jax.random.split(jax.random.key(0), 2), LEARNERS[learner].updates)
    for h in range(2):
        for s in range(2):
            value = LEARNERS[learner].value(algo, rlzoo.lane(state, h, s), jnp.zeros((1, 1)))
            assert float(value[0]) == pytest.approx(float(scales[h] / (1 - gammas[h])), rel=0.05)
