"""gymnasium both ways: its environments as a source, ours for its tools."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits

import rlzoo
from rlzoo import a2c, ppo, sac
from rlzoo.drivers.outside import HostError
from rlzoo.envs import gymnasium as host
from rlzoo.envs import to_gymnasium, to_gymnasium_vector
from rlzoo.envs.episodes import with_episodes
from rlzoo.types import Box, Discrete, Env

KEY = jax.random.key(2)
SMALL = ppo.Config(num_envs=4, num_steps=8, num_epochs=2, num_minibatches=2, hidden=(8,))


class Counting(gymnasium.Env):
    """Shows its steps, ends at 3 with the action's sum as reward; raises or changes its shape when it is told to."""

    observation_space = gymnasium.spaces.Box(0.0, 9.0, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    made: list["Counting"] = []  # noqa: RUF012

    def __init__(self, fails_at=None, how="raises"):
        self.fails_at, self.how, self.total, self.seeds, self.closed = fails_at, how, 0, [], False
        self.made.append(self)

    def reset(self, *, seed=None, options=None):
        self.time = 0
        self.seeds.append(seed)
        return np.array([0.0, len(self.made)]), {}

    def step(self, action):
        self.time, self.total = self.time + 1, self.total + 1
        if self.total == self.fails_at:
            if self.how == "raises":
                raise RuntimeError("the cable is loose")
            return np.zeros(3), 0.0, False, False, {}
        return np.array([self.time, 1.0]), float(action[0]), self.time == 3, False, {}

    def close(self):
        self.closed = True


def counting(**options):
    Counting.made = []
    return host.adapt(lambda: Counting(**options), "counting", 5)


def test_what_a_host_environment_shows():
    """Ends, the true last observation, and the reset behind it; one environment a key, seeded by it."""
    env = counting()
    keys = jax.random.split(KEY, 2)
    obs, state = jax.jit(jax.vmap(env.reset, (0, None)))(keys, env.params)
    assert obs.dtype == np.float32 and obs[:, 0].tolist() == [0.0, 0.0]
    step = jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
    for time in (1, 2, 3, 1):
        action = np.array([[0.25], [-0.5]], np.float32)
        state, now = step(keys, state, action, env.params)
        assert now.next_obs[:, 0].tolist() == [time, time] and now.reward.tolist() == [0.25, -0.5]
        assert now.terminated.tolist() == [time == 3] * 2 and not now.truncated.any()
        assert now.obs[:, 0].tolist() == [time % 3, time % 3]
    first, second = (x.seeds[0 if i else 1] for i, x in enumerate(Counting.made[:2]))
    assert len(Counting.made) == 2 and first != second and first is not None


def test_time_limits_are_truncations():
    env = rlzoo.envs.make("gymnasium/CartPole-v1", horizon=3)
    _, state = env.reset(KEY, env.params)
    for time in (1, 2, 3):
        state, now = env.step(KEY, state, np.int32(time % 2), env.params)
    assert now.truncated and not now.terminated and not np.array_equal(now.obs, now.next_obs)
    assert env.horizon == 3 and rlzoo.envs.make("gymnasium/CartPole-v1").horizon == 500


def walked(xp, x, action):
    """To the right or to the left, and a clock."""
    return xp.stack([x[0] + xp.where(action == 1, 1.0, -1.0), x[1] + 1.0]).astype(xp.float32)


def walk(xp, x, action):
    """Observation, reward and end: 3 away from the middle."""
    after = walked(xp, x, action)
    return after, -xp.abs(after[0]), xp.abs(after[0]) >= 3.0


class Walk(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.x = np.float32([0.5, 0.0])
        return self.x, {}

    def step(self, action):
        obs, reward, over = walk(np, self.x, action)
        self.x = obs
        return obs, float(reward), bool(over), False, {}


@pytest.mark.parametrize("name", ["ppo", "sac", "a2c"])
def test_algorithms_learn_from_what_the_host_gives(name):
    """The same as of the same environment in JAX."""
    make = {
        "ppo": lambda env: ppo.make(env, SMALL),
        "a2c": lambda env: a2c.make(env, a2c.Config(num_envs=4, num_steps=8, hidden=(8,))),
        "sac": lambda env: sac.make(env, sac.Config(num_envs=4, capacity=64, warmup=32, batch_size=16, hidden=(8,))),
    }[name]
    reset, step = with_episodes(
        lambda key, params: (jnp.float32([0.5, 0.0]), jnp.float32([0.5, 0.0])),
        lambda key, x, action, params: (walked(jnp, x, action), *walk(jnp, x, action)),
        6,
    )
    box = Box(np.full(2, -np.inf, np.float32), np.full(2, np.inf, np.float32))
    inside = rlzoo.envs.make(Env("own/walk", reset, step, (), box, Discrete(2), 6))
    outside = host.adapt(Walk, "walk", 6)
    found = [rlzoo.train(make(env), KEY, 6) for env in (outside, inside)]
    for metric, wanted in found[1][1].items():
        np.testing.assert_allclose(found[0][1][metric], wanted, rtol=1e-4, atol=1e-5, err_msg=metric)


def test_a_run_saves_the_last_whole_update_before_an_error(tmp_path):
    """32 steps an update: it raises in the third; what was saved goes on in other environments."""
    for how, message in (
        ("raises", "RuntimeError in update 3: the cable is loose"),
        ("grows", "showed float64.3., where"),
    ):
        wrong, directory = ppo.make(counting(fails_at=20, how=how), SMALL), tmp_path / how
        with pytest.raises(HostError, match=message) as raised:
            rlzoo.run(wrong, KEY, 10, directory=directory, report_every=5, eval_episodes=0, quiet=True)
        assert int(raised.value.state.step) == 2
        if how == "grows":
            continue
        good = ppo.make(counting(), SMALL)
        wanted, _ = rlzoo.train(good, KEY, 2)
        assert_same_bits(rlzoo.load(directory / "checkpoints", good).params, wanted.params)
        run = rlzoo.run(good, KEY, 4, directory=directory, resume=True, eval_episodes=4, quiet=True)
        assert int(run.state.step) == 4 and np.isfinite(run.metrics["loss/value"]).all()


def test_a_state_that_is_loaded_ends_its_episodes_as_truncations():
    env = counting()
    keys = jax.random.split(KEY, 2)
    _, state = jax.vmap(env.reset, (0, None))(keys, env.params)
    step = jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
    state, before = step(keys, state, np.zeros((2, 1), np.float32), env.params)
    env.host.groups.clear()
    state, now = step(keys, state, np.ones((2, 1), np.float32), env.params)
    assert now.truncated.all() and not now.terminated.any() and (now.reward == 0.0).all()
    np.testing.assert_array_equal(now.next_obs, before.obs)
    assert now.obs[:, 0].tolist() == [0.0, 0.0]


def test_groups_that_were_not_used_for_long_are_closed():
    env = counting()
    keys = jax.random.split(KEY, 1)
    reset, step = jax.vmap(env.reset, (0, None)), jax.vmap(env.step, (0, 0, 0, None))
    _, trained_in = reset(keys, env.params)
    for _ in range(host.SESSIONS + 1):
        _, _ = reset(keys, env.params)
        trained_in, now = step(keys, trained_in, np.zeros((1, 1), np.float32), env.params)
        assert not now.truncated.any()
    assert len(env.host.groups) == host.SESSIONS and sum(x.closed for x in Counting.made) == 2


def test_what_a_host_environment_cannot():
    algo = ppo.make(counting(), SMALL)
    with pytest.raises(
        ValueError, match="own/counting steps on the host, one agent at a time; train it with rlzoo.run"
    ):
        rlzoo.sweep(algo)
    with pytest.raises(ValueError, match="did you mean 'gymnasium/CartPole-v1'"):
        rlzoo.envs.make("gymnasium/CartPol-v1")


@pytest.mark.parametrize("deterministic", [True, False])
def test_policies_are_scored_on_the_host(deterministic):
    """A sweep's lanes, each on the same episodes; the return of what the policy does."""
    inside = rlzoo.envs.make("gymnax/CartPole-v1")
    runs = rlzoo.sweep(ppo.make(inside, SMALL), rlzoo.grid(ppo.Hyper(), learning_rate=[1e-3, 1e-2]))
    state = rlzoo.init(runs, jax.random.split(KEY, 2))
    found = rlzoo.evaluate_on_host(runs, state, "CartPole-v1", 3, seed=5, deterministic=deterministic)
    assert found.returns.shape == found.lengths.shape == (2, 2, 3)
    np.testing.assert_array_equal(found.returns, found.lengths)  # a reward of 1 a step
    np.testing.assert_array_equal(found.returns[0], found.returns[1])  # settings begin alike
    one = rlzoo.evaluate_on_host(runs.base, rlzoo.lane(state, 1, 0), gymnasium.make("CartPole-v1"), 2, 6, deterministic)
    np.testing.assert_array_equal(one.returns, found.returns[1, 0, 1:])
    with pytest.raises(ValueError, match="Pendulum-v1 .*does not fit; the policy was made for gymnax/CartPole-v1"):
        rlzoo.evaluate_on_host(runs, state, "Pendulum-v1", 1)


NAMES = ("gymnax/CartPole-v1", "gymnax/Pendulum-v1", "gymnax/Breakout-MinAtar", "rlzoo/RiskyPointMass-v0")


@pytest.mark.parametrize("name", NAMES)
def test_ours_pass_gymnasiums_checks(name):
    from gymnasium.utils.env_checker import check_env

    env = to_gymnasium(rlzoo.envs.make(name))
    check_env(env, skip_render_check=True)
    with pytest.raises(gymnasium.error.ResetNeeded):
        to_gymnasium(rlzoo.envs.make(name)).step(env.action_space.sample())


def test_ours_end_as_gymnasiums_do():
    """CartPole pushed to one side: the last observation is the true one, and a reset begins anew; vectors alike."""
    ours = rlzoo.envs.make("gymnax/CartPole-v1")
    env, vector = to_gymnasium(ours), to_gymnasium_vector(ours, 3)
    obs, _ = env.reset(seed=3)
    np.testing.assert_array_equal(obs, env.reset(seed=3)[0])
    over, steps = False, 0
    while not over:
        obs, reward, terminated, truncated, _ = env.step(1)
        over, steps = terminated or truncated, steps + 1
    assert terminated and reward == 1.0 and steps < 15 and abs(obs[2]) > 0.2
    vector.reset(seed=3)
    for _ in range(15):
        obs, reward, terminated, truncated, info = vector.step(np.ones(3, int))
        if terminated.any():
            break
    at = np.flatnonzero(terminated)
    assert info["_final_obs"].tolist() == terminated.tolist() and not truncated.any()
    assert all(abs(info["final_obs"][i][2]) > 0.2 and abs(obs[i][2]) < 0.1 for i in at)
    assert obs.shape == (3, 4) and vector.action_space.contains(np.ones(3, int))


def test_masks_are_seen_by_others():
    from test_observations import bandit

    env = to_gymnasium(bandit([False, True], [0.0, 1.0]))
    obs, _ = env.reset(seed=0)
    assert obs["action_mask"].tolist() == [0, 1] and env.observation_space.contains(obs)
    assert env.action_space.sample(mask=obs["action_mask"]) == 1


@pytest.mark.slow
def test_stable_baselines_trains_on_ours():
    """PPO of Stable-Baselines3 on CartPole, stepped by us."""
    sb3 = pytest.importorskip("stable_baselines3")
    model = sb3.PPO("MlpPolicy", to_gymnasium(rlzoo.envs.make("gymnax/CartPole-v1")), seed=0, n_steps=512)
    model.learn(20_000)
    returns = []
    env = to_gymnasium(rlzoo.envs.make("gymnax/CartPole-v1"))
    for seed in range(5):
        obs, _ = env.reset(seed=seed)
        over, total = False, 0.0
        while not over:
            obs, reward, terminated, truncated, _ = env.step(model.predict(obs, deterministic=True)[0])
            over, total = terminated or truncated, total + reward
        returns.append(total)
    assert np.mean(returns) > 150
