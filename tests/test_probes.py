"""Tiny environments with known answers, for every algorithm that learns online: it must find the value, not "go up"."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rlzoo
from rlzoo import a2c, a3c, ga3c, ppo, sac, stac

GAMMA = 0.9


class Learner(NamedTuple):
    make: Any  # env -> Algorithm
    updates: int
    actions: tuple[str, ...] = ("discrete", "continuous")


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


# The temperature stays near zero: values with an entropy in them would have no known answer.
OFF_POLICY = {"num_envs": 16, "batch_size": 128, "capacity": 4096, "warmup": 1024, "hidden": (32,), "num_updates": 2}
OFF_POLICY_HYPER = {
    "actor_learning_rate": 3e-3,
    "critic_learning_rate": 3e-3,
    "alpha_learning_rate": 0.0,
    "init_alpha": 1e-4,
    "gamma": GAMMA,
    "tau": 0.05,
}


def _sac(env):
    return sac.make(env, sac.Config(**OFF_POLICY), sac.Hyper(**OFF_POLICY_HYPER))


def _stac(env):
    return stac.make(env, stac.Config(**OFF_POLICY), stac.Hyper(**OFF_POLICY_HYPER, beta=0.0))


def value_of(algo, state, obs):
    """V(s), or Q(s, a) of the policy's action, [B]."""
    action = algo.policy(algo.actor(state), obs, jax.random.key(1), deterministic=True)
    return algo.value(state, algo.hyper, obs, action)[0]


LEARNERS = {
    "a2c": Learner(_a2c, 800),
    "a3c": Learner(_a3c, 800),
    "ga3c": Learner(_ga3c, 800),
    "ppo": Learner(_ppo, 150),
    "sac": Learner(_sac, 700),
    "stac": Learner(_stac, 700, ("continuous",)),
}
EVERY_LEARNER = pytest.mark.parametrize(
    ("learner", "actions"), [(name, kind) for name, learner in LEARNERS.items() for kind in learner.actions]
)


def learn(learner, name, actions):
    algo = learner.make(rlzoo.envs.make(f"probe/{name}", continuous=actions == "continuous"))
    state, _ = rlzoo.train(algo, jax.random.key(0), learner.updates)
    return algo, state


@EVERY_LEARNER
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
def test_value(learner, actions, name, answers):
    algo, state = learn(LEARNERS[learner], name, actions)
    found = np.asarray(value_of(algo, state, jnp.array(list(answers))[:, None]))
    np.testing.assert_allclose(found, list(answers.values()), rtol=0.03, atol=0.03)


@EVERY_LEARNER
@pytest.mark.parametrize(("name", "wanted"), [("reward-by-action", {0.0: 1}), ("reward-by-both", {-1.0: -1, 1.0: 1})])
def test_policy(learner, actions, name, wanted):
    algo, state = learn(LEARNERS[learner], name, actions)
    obs = jnp.array(list(wanted))[:, None]
    action = np.asarray(algo.policy(algo.actor(state), obs, jax.random.key(1), deterministic=True)).reshape(-1)
    signed = action if actions == "continuous" else 2 * action - 1
    assert (np.sign(signed) == list(wanted.values())).all() and (np.abs(signed) > 0.9).all()
    returns = rlzoo.evaluate(algo, algo.env, state, jax.random.key(2), 64).returns
    assert float(returns.mean()) > 0.9


@pytest.mark.parametrize("learner", LEARNERS)
def test_time_limit_is_no_death_in_every_lane_of_a_sweep(learner):
    """The same probe vmapped over gamma and over the reward's scale, a parameter of the environment."""
    env = rlzoo.envs.make("probe/truncation-only", continuous=LEARNERS[learner].actions == ("continuous",))
    algo = LEARNERS[learner].make(env)
    gammas, scales = jnp.array([0.5, 0.9]), jnp.array([2.0, 1.0])
    runs = rlzoo.sweep(algo, algo.hyper._replace(gamma=gammas), {"scale": scales})
    state, _ = rlzoo.train(runs, jax.random.split(jax.random.key(0), 2), LEARNERS[learner].updates)
    for h in range(2):
        for s in range(2):
            value = value_of(algo, rlzoo.lane(state, h, s), jnp.zeros((1, 1)))
            assert float(value[0]) == pytest.approx(float(scales[h] / (1 - gammas[h])), rel=0.05)
