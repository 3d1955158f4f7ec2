"""Physics drawn for every episode, or once for each environment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_same_bits, blank

import rlzoo
from rlzoo import ppo
from rlzoo.envs import randomised, vary

KEY = jax.random.key(5)
PENDULUM = rlzoo.envs.make("gymnax/Pendulum-v1")


def rolled(env, params, steps, key=KEY):
    """Parameters in force after a reset and after each step, and what the steps showed."""

    def one(state, key):
        state, now = env.step(key, state, jnp.zeros(1), params)
        return state, (state.drawn, now)

    _, state = env.reset(key, params)
    return state.drawn, *jax.lax.scan(one, state, jax.random.split(key, steps))[1]


@pytest.fixture(scope="module")
def drawn():
    """Of 64 environments over 450 steps: more than two episodes of 200."""
    env = randomised(PENDULUM, {"m": (0.5, 1.5), "l": (0.9, 1.1)})
    run = jax.jit(jax.vmap(lambda key: rolled(env, env.params, 450, key)))
    return env, run(jax.random.split(KEY, 64))


def test_every_episode_has_its_own(drawn):
    _, (first, later, now) = drawn
    done = np.asarray(now.truncated | now.terminated)
    assert done.sum(axis=1).tolist() == [2] * 64
    masses = np.concatenate([np.asarray(first.m)[:, None], later.m], axis=1)  # [64, 451]
    changes = masses[:, 1:] != masses[:, :-1]
    np.testing.assert_array_equal(changes, done)  # and in every other step the same
    each = np.concatenate([masses[:, :1], masses[:, 1:][done].reshape(64, 2)], axis=1)
    assert len(np.unique(each)) == 3 * 64 and (each >= 0.5).all() and (each <= 1.5).all()
    assert each.mean() == pytest.approx(1.0, abs=0.08) and each.std() == pytest.approx(1 / np.sqrt(12), abs=0.04)
    assert not np.allclose(np.corrcoef(first.m, first.l)[0, 1], 1.0, atol=0.5)
    assert (np.asarray(first.g) == 10.0).all()


def test_steps_are_those_of_the_plain_environment_at_what_was_drawn():
    env = randomised(PENDULUM, {"m": (0.5, 1.5)})
    _, state = env.reset(KEY, env.params)
    after, now = env.step(KEY, state, jnp.ones(1), env.params)
    inner, wanted = PENDULUM.step(jax.random.split(KEY)[0], state.env, jnp.ones(1), state.drawn)
    assert_same_bits(now.next_obs, wanted.next_obs)
    assert_same_bits(after.env, inner)
    _, other = PENDULUM.step(jax.random.split(KEY)[0], state.env, jnp.ones(1), PENDULUM.params)
    assert not np.allclose(other.next_obs, now.next_obs)


def test_a_new_episode_begins_under_its_own_physics():
    """The reset, too, is one of the physics drawn: of an environment whose start is its parameter."""
    from rlzoo.envs.episodes import with_episodes
    from rlzoo.types import Box, Discrete, Env

    reset, step = with_episodes(
        lambda key, params: (params["at"][None], params["at"]),
        lambda key, state, action, params: (state, state[None], params["at"], False),
        2,
    )
    box = Box(np.full(1, -np.inf, np.float32), np.full(1, np.inf, np.float32))
    env = rlzoo.envs.make(Env("own/start", reset, step, {"at": jnp.float32(0.0)}, box, Discrete(2), 2))
    env = rlzoo.envs.make(randomised(env, {"at": (0.0, 1.0)}))
    _, state = env.reset(KEY, env.params)
    for t in range(5):
        state, now = env.step(jax.random.fold_in(KEY, t), state, 0, env.params)
        assert float(now.obs[0]) == float(state.drawn["at"])
        assert bool(now.truncated) == (t % 2 == 1) and (float(now.next_obs[0]) == float(now.reward))


def test_per_environment_what_was_drawn_stays():
    env = randomised(PENDULUM, {"m": (0.5, 1.5)}, per="environment")
    first, later, now = jax.jit(jax.vmap(lambda key: rolled(env, env.params, 250, key)))(jax.random.split(KEY, 8))
    assert now.truncated.any() and len(np.unique(first.m)) == 8
    np.testing.assert_array_equal(later.m, np.broadcast_to(np.asarray(first.m)[:, None], later.m.shape))


def test_ranges_are_swept_in_one_program():
    """No width, and a wide one: side by side, each as alone; and `vary` knows the ends by name."""
    env = randomised(PENDULUM, {"m": (1.0, 1.0)})
    wide = vary(env, {"m 1": [1.0, 1.5]})
    assert wide.ranges["m"].tolist() == [[1.0, 1.0], [1.0, 1.5]]
    algo = ppo.make(env, ppo.Config(num_envs=4, num_steps=25, num_epochs=1, num_minibatches=1, hidden=(8,)))
    runs = rlzoo.sweep(algo, task=wide)
    state, metrics = rlzoo.train(runs, jax.random.split(KEY, 1), 2)
    masses = np.asarray(state.envs.state.drawn.m)  # [H, S, N]
    assert (masses[0] == 1.0).all() and ((masses[1] > 1.0) & (masses[1] < 1.5)).all()
    assert np.isfinite(metrics["loss/value"]).all()


def test_bodies_of_brax_and_functions_of_ones_own():
    env = rlzoo.envs.make("brax/inverted_pendulum", backend="mjx", horizon=3)
    wide = randomised(env, {"mass pole": (4.0, 6.0), "friction": (0.5, 1.0)})
    _, state = jax.jit(jax.vmap(wide.reset, (0, None)))(jax.random.split(KEY, 3), wide.params)
    assert len(np.unique(state.drawn.body_mass[:, 2])) == 3 and len(np.unique(state.drawn.geom_friction[:, 0, 0])) == 3
    assert (np.asarray(state.drawn.body_mass)[:, 2] >= 4.0).all()

    def heavier(key, params):
        return params.replace(m=params.m + jax.random.bernoulli(key))

    own = randomised(PENDULUM, heavier)
    _, state = jax.vmap(own.reset, (0, None))(jax.random.split(KEY, 32), own.params)
    assert set(np.asarray(state.drawn.m).tolist()) == {1.0, 2.0}


def test_it_is_restored_by_its_record(tmp_path):
    env = randomised(PENDULUM, {"m": (0.5, 1.5)})
    algo = ppo.make(env, ppo.Config(num_envs=2, num_steps=4, num_epochs=1, num_minibatches=1, hidden=(4,)))
    rlzoo.save(tmp_path, algo, blank(algo, KEY))
    found = rlzoo.restore(tmp_path).algo.env
    assert found.name == env.name == "gymnax/Pendulum-v1 randomised"
    assert found.params.ranges["m"].tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"mas": (0.5, 1.5)}, "unknown parameter of gymnax/Pendulum-v1 'mas'"),
        ({"m": (1.5, 0.5)}, r"m: \(1.5, 0.5\) is no range; give its two ends, the lower one first"),
        ({"m": 1.0}, "m: 1.0 is no range"),
        ({"m": (-1.0, 1.0)}, r"m=\[-1.0, 1.0\]; each must be positive, as the default 1"),
        ({"m": (0.5, np.inf)}, "it needs one or more finite numbers"),
        ({}, "nothing to draw; give ranges"),
    ],
)
def test_ranges_that_are_refused(ranges, message):
    with pytest.raises(ValueError, match=message):
        randomised(PENDULUM, ranges)
    with pytest.raises(ValueError, match="per.*'step'.*episode, environment|per.*'step'"):
        randomised(PENDULUM, {"m": (0.5, 1.5)}, per="step")


def test_one_agent_on_a_task_with_an_axis():
    """Not a bare TypeError, however the axis came there."""
    algo = ppo.make(PENDULUM)
    masses = vary(PENDULUM, {"m": [0.5, 1.5]})
    for wrong in (algo._replace(task=masses), ppo.make(PENDULUM._replace(params=masses))):
        with pytest.raises(
            ValueError, match=r"task\.m has shape \[2\], and .*Pendulum-v1 has \[\].*rlzoo.envs.randomised"
        ):
            rlzoo.train(wrong, KEY, 1)
