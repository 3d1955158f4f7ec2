"""Suites that are extras: the conformance of their adapters, and what is said where one is not there."""

import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_envs import KEYS, LIMIT, conforms, cut, one_trajectory, time_limit_is_a_truncation

import rlzoo
from rlzoo.envs import EXTRAS
from rlzoo.types import Discrete, MultiDiscrete, Observation

SUITES = sorted(set(EXTRAS) - {"gymnasium"})  # which steps on the host, see test_gymnasium.py
PACKAGES = {suite: "mujoco_playground" if suite == "playground" else suite for suite in SUITES}
QUICK = {  # of each kind that an adapter meets
    "craftax": (),  # a minute of compiling
    "jumanji": ("Cleaner-v0", "Game2048-v1", "Knapsack-v1", "Snake-v1", "Tetris-v0"),
    "navix": ("Navix-Empty-5x5-v0",),
    "pgx": ("2048", "connect_four", "kuhn_poker", "minatar-breakout", "tic_tac_toe"),
    "playground": (),
    "xminigrid": ("MiniGrid-DoorKey-5x5", "XLand-MiniGrid-R1-9x9"),
}
FETCHES = ("jumanji/Sokoban-v0",)  # from the network


def here(suite):
    return importlib.util.find_spec(PACKAGES[suite]) is not None


def ids():
    for suite in SUITES:
        skip = [] if here(suite) else [pytest.mark.skip(reason=f"{suite} is not installed")]
        listed = rlzoo.envs.names(suite) if here(suite) else QUICK[suite] or ("any",)
        for name in listed:
            slow = [] if name in QUICK[suite] or not here(suite) else [pytest.mark.slow]
            if f"{suite}/{name}" not in FETCHES:
                yield pytest.param(f"{suite}/{name}", marks=skip + slow)


@pytest.mark.parametrize("name", ids())
def test_adapters(name):
    try:
        env, long = cut(name)
    except ValueError as error:
        if "fetches" not in str(error):
            raise
        pytest.skip(str(error))
    time_limit_is_a_truncation(name, env, long, conforms(env))


def needs(suite):
    return pytest.mark.skipif(not here(suite), reason=f"{suite} is not installed")


def test_what_is_not_installed_says_what_to_install(monkeypatch):
    for suite, package in PACKAGES.items():
        for module in [x for x in sys.modules if x.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ValueError, match=rf"{suite}.*; pip install 'rlzoo\[{suite}\]', or in a clone -e"):
            rlzoo.envs.make(f"{suite}/Craftax-Symbolic-v1")  # the one name that is known without its package


def test_suites_that_cannot_live_here():
    with pytest.raises(ValueError, match="kinetix/s.* cannot live here: .*jax 0.9"):
        rlzoo.envs.make("kinetix/s")
    with pytest.raises(ValueError, match="overwrites the real one"):
        rlzoo.envs.make("popgym_arcade/CartPoleEasy")
    with pytest.raises(ValueError, match="did you mean 'jumanji/...'|'jumanji/"):
        rlzoo.envs.make("jumanj/Snake-v1")


@pytest.mark.parametrize("suite", SUITES)
def test_unknown_tasks_name_the_nearest_of_their_suite(suite):
    if not here(suite):
        pytest.skip(f"{suite} is not installed")
    known = rlzoo.envs.names(suite)[-1]
    with pytest.raises(ValueError, match=f"did you mean '{suite}/"):
        rlzoo.envs.make(f"{suite}/{known[:-1]}")


@needs("craftax")
def test_craftax_dies_of_hunger_and_is_cut_by_the_clock():
    """A death at the very step of the limit is both."""
    env = rlzoo.envs.make("craftax/Craftax-Classic-Symbolic-v1", horizon=20)
    assert env.horizon == 20 and env.params.max_timesteps == 20
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    _, state = reset(KEYS[0], env.params)
    weak = state._replace(inner=state.inner.replace(player_health=jnp.int32(0)))
    _, now = step(KEYS[0], weak, 0, env.params)
    assert now.terminated and not now.truncated
    _, now = step(KEYS[0], state._replace(time=jnp.int32(19)), 0, env.params)
    assert now.truncated and not now.terminated
    _, now = step(KEYS[0], weak._replace(time=jnp.int32(19)), 0, env.params)
    assert now.truncated and now.terminated
    with pytest.raises(ValueError, match="takes no option 'godmode'"):
        rlzoo.envs.make("craftax/Craftax-Classic-Symbolic-v1", godmode=True)


@needs("jumanji")
def test_jumanjis_limits_are_no_deaths():
    """Its own limit ends an episode with discount 0."""
    env = rlzoo.envs.make("jumanji/Snake-v1", horizon=LIMIT)
    assert rlzoo.envs.make("jumanji/Snake-v1").horizon == 4_000
    _, _, now = jax.jit(lambda key: one_trajectory(env, env.params, key))(KEYS[1])
    assert now.truncated.any() and not (now.truncated & now.terminated).any()
    assert np.asarray(now.next_obs.vector[now.truncated, 0] == LIMIT).all()  # steps, of the true last observation


@needs("jumanji")
def test_jumanjis_actions_of_several_numbers():
    """A mask over all is of one number, and one for each of several; an illegal action is one where it says so."""
    tetris = rlzoo.envs.make("jumanji/Tetris-v0")
    assert tetris.action_space == Discrete(40) and tetris.obs_space.legal.shape == (40,)
    cleaner = rlzoo.envs.make("jumanji/Cleaner-v0")
    assert cleaner.action_space == MultiDiscrete((4, 4, 4)) and cleaner.obs_space.legal.shape == (12,)
    with pytest.raises(ValueError, match="jumanji/MultiCVRP-v0' is not supported: its actions go to 21"):
        rlzoo.envs.make("jumanji/MultiCVRP-v0")


@needs("pgx")
def test_pgx_is_always_the_agents_turn_and_rewards_are_its_own():
    """Both begin in half of the games; a win is 1, a loss -1, and the others' moves are among them."""
    for name in ("connect_four", "kuhn_poker", "leduc_holdem", "tic_tac_toe"):
        env = rlzoo.envs.make(f"pgx/{name}")

        def turns(key, env=env):
            obs, state = env.reset(key, env.params)
            first = state.inner._step_count

            def one(carry, key):
                obs, state = carry
                action = jax.random.categorical(key, jnp.where(obs.legal, 0.0, -jnp.inf))
                state, now = env.step(key, state, action, env.params)
                return (now.obs, state), (state.inner.current_player, now)

            return first, jax.lax.scan(one, (obs, state), jax.random.split(key, 12))[1]

        first, (player, now) = jax.jit(jax.vmap(turns))(jax.random.split(KEYS[0], 200))
        assert (np.asarray(player) == 0).all(), name
        assert 0.35 < np.mean(np.asarray(first) > 0) < 0.65, name  # the other has moved before
        ends = np.asarray(now.reward)[np.asarray(now.terminated)]
        assert (
            (ends > 0).any() and (ends < 0).any() and (np.asarray(now.reward)[~np.asarray(now.terminated)] == 0).all()
        )
        assert not now.truncated[:, : env.horizon - 1].any()


@needs("pgx")
def test_pgx_against_a_given_policy():
    """Of two who fill a column each whoever begins wins; the opponent sees the board as its own."""
    seen = []

    def first(obs, legal, key):
        seen.append(obs.shape)
        return jnp.argmax(legal)

    env = rlzoo.envs.make("pgx/connect_four", opponent=first)
    rewards = []
    for key in KEYS:
        _, state = env.reset(key, env.params)
        for _ in range(4):  # as many as it takes whoever begins
            state, now = env.step(key, state, 3, env.params)
            if now.terminated:
                break
        rewards.append(float(now.reward))
    assert seen and set(seen) == {(6, 7, 2)} and set(rewards) == {-1.0, 1.0}


@needs("xminigrid")
def test_xminigrid_reaches_its_goal_and_observes_kinds():
    """An agent that is shown the way: the goal ends the episode, and its reward is less the later it comes."""
    env = rlzoo.envs.make("xminigrid/MiniGrid-Empty-5x5")
    assert env.obs_space.low.dtype == bool and env.obs_space.shape[-1] == 25
    obs, state = env.reset(KEYS[0], env.params)
    assert (np.asarray(obs).sum(-1) == 2).all()  # one tile and one colour a cell
    for action in (0, 0, 1, 0, 0):  # forward twice, to the right, forward twice
        state, now = env.step(KEYS[0], state, action, env.params)
        if now.terminated:
            break
    numbers = rlzoo.envs.make("xminigrid/MiniGrid-Empty-5x5", one_hot=False)
    assert numbers.obs_space.shape == (*env.obs_space.shape[:2], 2) and numbers.obs_space.low.dtype == np.uint8
    assert now.terminated and 0.9 < float(now.reward) < 1.0


@needs("pgx")
def test_ppo_trains_on_masks_of_a_suite():
    """Connect four against random moves: better than at random after a minute's worth of updates, and never illegal."""
    from rlzoo import ppo

    env = rlzoo.envs.make("pgx/connect_four")
    assert isinstance(env.obs_space, Observation)
    algo = ppo.make(
        env,
        ppo.Config(num_envs=64, num_steps=16, num_epochs=2, num_minibatches=4, normalise_obs=False, activation="relu"),
        ppo.Hyper(learning_rate=2e-3, gamma=0.97),
    )
    state = rlzoo.init(algo, KEYS[0], quiet=True)
    before = rlzoo.evaluate(algo, env, state, KEYS[1], 128, deterministic=False)
    state, metrics = rlzoo.resume(algo, state, 30)
    after = rlzoo.evaluate(algo, env, state, KEYS[1], 128, deterministic=False)
    assert float(after.returns.mean()) > float(before.returns.mean()) + 0.3
    assert (metrics["episode/nothing_legal"] == 0.0).all()


@needs("craftax")
def test_names_of_records_are_names():
    """Options behind a name are options."""
    env = rlzoo.envs.make("craftax/Craftax-Classic-Symbolic-v1", cached_reset=True)
    assert rlzoo.envs.make(env.name).name == env.name == "craftax/Craftax-Classic-Symbolic-v1 cached_reset"
    assert rlzoo.envs.named("playground/CheetahRun warp", {}) == ("playground/CheetahRun", {"impl": "warp"})
