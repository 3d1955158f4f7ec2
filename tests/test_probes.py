"""Tiny environments with known answers, for every algorithm: it must find the value, not "go up"."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import any_of, train_long

import rlzoo
from rlzoo import a2c, a2pr, a3c, bc, dqn, ga3c, mixed_ne, ppo, pqn, prdc, qarl, sac, stac, td3, td3_bc
from rlzoo.blocks import heads
from rlzoo.envs import adversarial

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
    # Where nothing is random its sigma falls to its floor and the gradient grows with 1/sigma^2: smaller steps.
    slower = OFF_POLICY_HYPER | {"actor_learning_rate": 2e-3, "critic_learning_rate": 2e-3}
    return stac.make(env, stac.Config(**OFF_POLICY), stac.Hyper(**slower, beta=0.0))


def _mixed_ne(env):
    config = mixed_ne.Config(
        num_envs=16, num_steps=1, num_updates=2, batch_size=128, capacity=4096, warmup=1024, actor_start=0, hidden=(32,)
    )
    rates = {name.replace("alpha", "temperature"): x for name, x in OFF_POLICY_HYPER.items()}
    # Where the action has no effect its gradient is all but zero, and what is divided by it leads astray.
    return mixed_ne.make(env, config, mixed_ne.Hyper(**rates | {"actor_learning_rate": 3e-4}, noise=1e-5))


def _qarl(env):
    # Phases of 1,000 steps, however long the episodes are; temperatures near zero from the start.
    config = qarl.Config(
        num_episodes=1_000 // env.horizon,
        update_every=2,
        batch_size=128,
        capacity=4_000,
        critic_start=200,
        actor_start=200,
        hidden=(32,),
    )
    rates = {name.replace("alpha", "temperature"): x for name, x in OFF_POLICY_HYPER.items()}
    return qarl.make(adversarial(env, on="action"), config, qarl.Hyper(**rates, start_shape=1.0))


def _dqn(**options):
    config = dqn.Config(**OFF_POLICY | {"num_steps": 1, "num_bins": 61} | options)
    rates = {"learning_rate": 3e-3, "adam_eps": 1e-5, "tau": 0.05, "gamma": GAMMA, "epsilon": 0.3}
    return lambda env: dqn.make(env, config, dqn.Hyper(**rates, value_low=-15.0, value_high=15.0))


def _pqn(env):
    config = pqn.Config(num_envs=16, num_steps=16, num_epochs=4, num_minibatches=4, hidden=(32,))
    hyper = pqn.Hyper(learning_rate=3e-3, gamma=GAMMA, anneal_steps=16 * 16 * 200, epsilon_steps=1e4, reward_scale=1.0)
    return pqn.make(env, config, hyper)


def _td3(**options):
    rates = {name: x for name, x in OFF_POLICY_HYPER.items() if "alpha" not in name}
    hyper = td3.Hyper(**rates, exploration_noise=0.3, value_low=-15.0, value_high=15.0)
    return lambda env: td3.make(env, td3.Config(**OFF_POLICY | {"num_steps": 1, "num_bins": 61} | options), hyper)


def _of_sac(**options):
    hyper = sac.Hyper(**OFF_POLICY_HYPER, value_low=-15.0, value_high=15.0)
    return lambda env: sac.make(env, sac.Config(**OFF_POLICY, num_bins=61, **options), hyper)


def value_of(algo, state, obs):
    """V(s), or Q(s, a) of the policy's action, [B]."""
    action = algo.policy(algo.actor(state), obs, jax.random.key(1), deterministic=True)
    return algo.value(state, algo.hyper, obs, action)[0]


LEARNERS = {
    "a2c": Learner(_a2c, 800),
    "a3c": Learner(_a3c, 800),
    "ga3c": Learner(_ga3c, 800),
    "mixed_ne": Learner(_mixed_ne, 700, ("continuous",)),
    "ppo": Learner(_ppo, 150),
    "qarl": Learner(_qarl, 4, ("continuous",)),
    "sac": Learner(_sac, 700),
    "dqn": Learner(_dqn(double=True), 700, ("discrete",)),
    "pqn": Learner(_pqn, 200, ("discrete",)),
    "td3": Learner(_td3(), 700, ("continuous",)),
    "stac": Learner(_stac, 900, ("continuous",)),
}
# Every head, and what else the family has: all of them slow.
HEADS = {
    **{f"dqn {head}": Learner(_dqn(head=head), 900, ("discrete",)) for head in heads.HEADS if head != "scalar"},
    "dqn iqn": Learner(_dqn(head="iqn", hidden=(32, 32), num_taus=(16, 16, 16)), 900, ("discrete",)),
    "dqn munchausen": Learner(_dqn(munchausen=True), 900, ("discrete",)),
    "rainbow": Learner(_dqn(head="c51", double=True, dueling=True, prioritised=True), 900, ("discrete",)),
    "sac c51": Learner(_of_sac(head="c51"), 900),
    "td3 hl_gauss": Learner(_td3(head="hl_gauss"), 900, ("continuous",)),
}
LEARNERS |= HEADS
# What they share with A2C but the actions' distribution, or what they share with SAC; one probe of each is not slow.
SLOW = (
    *((name, kind) for name, learner in HEADS.items() for kind in learner.actions),
    ("a3c", "continuous"),
    ("ga3c", "continuous"),
    ("mixed_ne", "continuous"),
    ("qarl", "continuous"),
)

PROBES = rlzoo.envs.names("probe")
# A probe, and what is swept in its lanes. The value of the endless one is scale / (1 - gamma): in every lane its own.
LANES = [(name, {"gamma": GAMMA, "scale": 1.0}) for name in PROBES]
LANES += [("truncation-only", {"gamma": 0.5, "scale": 2.0})]
NAMES = [name for name, _ in LANES]
SEEDS = 2


class Learned(NamedTuple):
    runs: Any  # a sweep over LANES
    state: Any
    signed: Callable[[Any], Any]  # an action as +1 or -1

    def lane(self, setting, seed=0):
        return rlzoo.setting(self.runs, setting), rlzoo.lane(self.state, setting, seed)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((name, kind), id=f"{name}-{kind}", marks=pytest.mark.slow if (name, kind) in SLOW else ())
        for name, learner in LEARNERS.items()
        for kind in learner.actions
    ],
)
def learned(request):
    """One program that learns all probes."""
    name, kind = request.param
    env = any_of([rlzoo.envs.make(f"probe/{probe}", continuous=kind == "continuous") for probe in PROBES])
    algo = LEARNERS[name].make(env)
    which = jnp.array([PROBES.index(probe) for probe, _ in LANES])
    gamma, scale = (jnp.array([numbers[x] for _, numbers in LANES]) for x in ("gamma", "scale"))
    task = {"which": which, "scale": scale}
    task = task if algo.env is env else algo.task._replace(env=task)
    runs = rlzoo.sweep(algo, algo.hyper._replace(gamma=gamma), task)
    state, _ = train_long(runs, jax.vmap(jax.random.key)(jnp.arange(SEEDS)), LEARNERS[name].updates)
    return Learned(runs, state, (lambda action: action) if kind == "continuous" else (lambda action: 2 * action - 1))


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
def test_value(learned, name, answers):
    for seed in range(SEEDS):
        found = np.asarray(value_of(*learned.lane(NAMES.index(name), seed), jnp.array(list(answers))[:, None]))
        np.testing.assert_allclose(found, list(answers.values()), rtol=0.03, atol=0.03)


@pytest.mark.parametrize(("name", "wanted"), [("reward-by-action", {0.0: 1}), ("reward-by-both", {-1.0: -1, 1.0: 1})])
def test_policy(learned, name, wanted):
    algo, state = learned.lane(NAMES.index(name))
    obs = jnp.array(list(wanted))[:, None]
    action = np.asarray(algo.policy(algo.actor(state), obs, jax.random.key(1), deterministic=True)).reshape(-1)
    signed = learned.signed(action)
    assert (np.sign(signed) == list(wanted.values())).all() and (np.abs(signed) > 0.9).all()
    returns = rlzoo.evaluate(algo, algo.env, state, jax.random.key(2), 64).returns
    assert float(returns.mean()) > 0.9


def test_time_limit_is_no_death_in_every_lane_of_a_sweep(learned):
    """The same probe under another gamma and another reward's scale, a parameter of the environment."""
    endless = [(i, numbers) for i, (name, numbers) in enumerate(LANES) if name == "truncation-only"]
    assert len(endless) == 2
    for (setting, numbers), seed in itertools.product(endless, range(SEEDS)):
        value = value_of(*learned.lane(setting, seed), jnp.zeros((1, 1)))
        assert float(value[0]) == pytest.approx(numbers["scale"] / (1 - numbers["gamma"]), rel=0.05)


# --- offline, on random actions ---------------------------------------------------------------------------------------

A2PR_SMALL = {"actor_hidden": (32,), "critic_hidden": (32,), "vae_hidden": (32,)}
OFFLINE = {
    "a2pr": (a2pr.Config(batch_size=128, **A2PR_SMALL), a2pr.Hyper()),
    "prdc": (prdc.Config(batch_size=128, hidden=(32,)), prdc.Hyper()),
    "td3_bc": (td3_bc.Config(batch_size=128, hidden=(32,)), td3_bc.Hyper()),
}


OFFLINE_PROBES = ("delayed-reward", "truncation-only", "both-flags", "reward-by-both")


@pytest.fixture(scope="module", params=OFFLINE)
def learned_offline(request):
    """One program that learns all probes, each from a dataset of its own.

    The value leads the policy (alpha = 1000); at that of the data's actions its answers would not be known.
    """
    config, hyper = OFFLINE[request.param]
    rates = {"actor_learning_rate": 1e-3, "critic_learning_rate": 3e-3, "tau": 0.1, "gamma": GAMMA, "alpha": 1e3}
    each = []
    for probe in OFFLINE_PROBES:
        env = rlzoo.envs.make(f"probe/{probe}", continuous=True)
        dataset = rlzoo.data.collect(env, None, jax.random.key(5), 2048)
        each.append(rlzoo.ALGORITHMS[request.param].make(env, config, dataset, hyper._replace(**rates)))
    runs = rlzoo.sweep(each[0], task=jax.tree.map(lambda *x: jnp.stack(x), *(algo.task for algo in each)))
    return each, train_long(runs, jax.random.key(0)[None], 1_000)[0]


@pytest.mark.parametrize(
    ("probe", "answers"),
    [
        ("delayed-reward", {0.0: GAMMA, 1.0: 1.0}),
        ("truncation-only", {0.0: 1.0 / (1.0 - GAMMA)}),
        ("both-flags", {0.0: 1.0}),
    ],
)
def test_value_offline(learned_offline, probe, answers):
    each, state = learned_offline
    setting = OFFLINE_PROBES.index(probe)
    obs = jnp.array(list(answers))[:, None]
    found = np.asarray(value_of(each[setting], rlzoo.lane(state, setting, 0), obs))
    np.testing.assert_allclose(found, list(answers.values()), rtol=0.03, atol=0.03)


def test_policy_offline(learned_offline):
    each, state = learned_offline
    setting = OFFLINE_PROBES.index("reward-by-both")
    algo, state = each[setting], rlzoo.lane(state, setting, 0)
    obs = jnp.array([[-1.0], [1.0]])
    action = np.asarray(algo.policy(algo.actor(state), obs, jax.random.key(1), deterministic=True))[:, 0]
    assert action[0] < -0.9 and action[1] > 0.9
    returns = rlzoo.evaluate(algo, algo.env, state, jax.random.key(2), 64).returns
    assert float(returns.mean()) > 0.9


def test_cloning():
    """The data's action is the observation, of all that it could be."""
    env = rlzoo.envs.make("probe/reward-by-both", continuous=True)
    dataset = rlzoo.data.collect(env, lambda obs, key: 0.8 * obs, jax.random.key(5), 512)
    algo = bc.make(env, bc.Config(batch_size=64, hidden=(32,)), dataset, bc.Hyper(learning_rate=1e-2))
    state, _ = train_long(algo, jax.random.key(0), 500)
    obs = jnp.array([[-1.0], [1.0]])
    np.testing.assert_allclose(algo.policy(algo.actor(state), obs, jax.random.key(1)), 0.8 * obs, atol=0.01)
