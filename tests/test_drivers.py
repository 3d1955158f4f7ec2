"""Training, sweeping, evaluating, saving and running, whichever the algorithm."""

import dataclasses
import importlib
import json
import os
import shutil
import signal
from functools import partial
from typing import NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, assert_same_bits, blank, copy, plain

import rlzoo
from rlzoo import ppo, sac
from rlzoo.blocks.networks import FeedForward
from rlzoo.drivers import checkpoint, manifest
from rlzoo.drivers.memory import size_in_bytes
from rlzoo.drivers.train import compiled_chunk, default_in_lanes
from rlzoo.report import sinks
from rlzoo.types import Algorithm

evaluating = importlib.import_module("rlzoo.drivers.evaluate")
KEY = jax.random.key(5)
KEYS = jax.random.split(KEY, 2)


@pytest.fixture(scope="module")
def runs(tiny):
    return rlzoo.sweep(tiny, rlzoo.grid(tiny.hyper, learning_rate=[1e-3, 1e-2]))


@pytest.fixture(scope="module")
def trained(runs):
    return rlzoo.train(runs, KEYS, 3)[0]


# --- train -----------------------------------------------------------------------------------------------------------


def test_budgets_are_exact_or_name_the_nearest(tiny):
    assert rlzoo.updates_for(tiny, 640) == 10
    with pytest.raises(
        ValueError, match="env_steps=1000 is not a whole number of updates of 64 steps; use 960 or 1,024"
    ):
        rlzoo.updates_for(tiny, 1000)
    with pytest.raises(ValueError, match="use 64"):
        rlzoo.updates_for(tiny, 10)


def test_keys_are_checked(tiny, runs):
    for algo, key, message in (
        (tiny, KEYS, "one agent takes one key"),
        (runs, KEY, "a sweep takes one key per seed"),
        (tiny, jax.random.PRNGKey(0), "typed key"),
        (tiny, 0, "typed key"),
    ):
        with pytest.raises(ValueError, match=message):
            rlzoo.train(algo, key, 1)


def test_a_swept_number_needs_a_sweep(tiny):
    with pytest.raises(ValueError, match=r"hyper.gamma has shape \[2\]; one agent takes one number"):
        rlzoo.train(tiny._replace(hyper=tiny.hyper._replace(gamma=jnp.ones(2))), KEY, 1)


def test_metrics_that_leave_jit_are_of_the_order_of_updates(tiny):
    """From the compiled program: one float per metric and update, whatever the steps and environments in it."""
    state = rlzoo.init(tiny, KEY)
    _, metrics = jax.eval_shape(tiny.step, state, tiny.hyper, tiny.task)
    outputs = []
    for updates in (50, 100):
        memory = compiled_chunk(tiny, state, updates).memory_analysis()
        outputs.append(memory.output_size_in_bytes - memory.alias_size_in_bytes)
    assert outputs[1] - outputs[0] == 50 * 4 * len(metrics)
    assert outputs[0] <= 50 * 4 * len(metrics) + 1024  # the state itself is donated


# --- sweep -----------------------------------------------------------------------------------------------------------


def test_grid_is_every_combination(tiny):
    hyper = rlzoo.grid(tiny.hyper, learning_rate=[1e-4, 1e-3], gamma=[0.8, 0.9, 0.99])
    np.testing.assert_allclose(hyper.learning_rate, np.repeat([1e-4, 1e-3], 3), rtol=1e-6)
    np.testing.assert_allclose(hyper.gamma, np.tile([0.8, 0.9, 0.99], 2), rtol=1e-6)
    assert hyper.clip_eps == 0.2


def test_any_mix_of_hyper_and_environment_parameters(tiny):
    task = tiny.task.replace(gravity=jnp.array([5.0, 9.8, 20.0]), length=jnp.array([0.5, 0.6, 0.7]))
    mixed = rlzoo.sweep(tiny, tiny.hyper._replace(gamma=jnp.array([0.9, 0.95, 0.99])), task)
    state, metrics = rlzoo.train(mixed, KEYS, 2)
    assert state.key.shape == (3, 2) and metrics["loss/policy"].shape == (2, 3, 2)
    returns = rlzoo.evaluate(mixed, tiny.env, state, KEY, 4).returns
    assert returns.shape == (3, 2, 4)


def test_lanes_in_groups_are_the_lanes_at_once(tiny):
    task = tiny.task.replace(gravity=jnp.array([5.0, 9.8, 20.0]))
    hyper = tiny.hyper._replace(gamma=jnp.array([0.9, 0.95, 0.99]))
    at_once = rlzoo.sweep(tiny, hyper, task)
    grouped = rlzoo.sweep(tiny, hyper, task, in_lanes=4)  # of six, then the other two
    expected, result = rlzoo.train(at_once, KEYS, 2), rlzoo.train(grouped, KEYS, 2)
    chex.assert_trees_all_equal_shapes_and_dtypes(result, expected)
    chex.assert_trees_all_close(
        *((state.params, metrics) for state, metrics in (result, expected)), rtol=1e-3, atol=1e-5
    )
    assert_same_bits(result[0].key, expected[0].key)
    assert int(result[0].step) == 2

    one = rlzoo.sweep(tiny, in_lanes=4)  # more than there are
    assert rlzoo.train(one, KEYS[:1], 2)[0].key.shape == (1, 1)

    program = compiled_chunk(grouped, result[0], 1)  # reads the groups out of the State and writes them back into it
    assert program.memory_analysis().alias_size_in_bytes >= size_in_bytes(result[0]) - 4  # but for the clock


def test_a_cpu_trains_large_networks_one_after_another(tiny):
    large = ppo.make(tiny.env, ppo.Config(num_envs=2, num_steps=4, num_minibatches=2, hidden=(256, 256)))
    for algo, expected in ((tiny, 2), (large, 1)):
        state = jax.eval_shape(rlzoo.sweep(algo).init, KEYS, algo.hyper, algo.task)
        assert default_in_lanes(state, 2) == expected


def test_a_sweep_without_swept_leaves_is_over_seeds(tiny):
    state, _ = rlzoo.train(rlzoo.sweep(tiny), KEYS, 1)
    assert state.key.shape == (1, 2)


def test_wrong_sweeps_are_named(tiny, runs):
    two, three = jnp.ones(2), jnp.ones(3)
    for hyper, task, message in (
        (tiny.hyper._replace(gamma=two, clip_eps=three), None, "hyper.gamma: 2, hyper.clip_eps: 3"),
        (tiny.hyper._replace(gamma=two), tiny.task.replace(gravity=three), "hyper.gamma: 2, task.gravity: 3"),
        (tiny.hyper._replace(gamma=jnp.ones((2, 2))), None, r"hyper.gamma has shape \[2, 2\]; allowed are \[\]"),
        (tiny.hyper._replace(gamma=jnp.ones(0)), None, "hyper.gamma is empty"),
        (tiny.hyper, {"gravity": two}, "task has another structure"),
    ):
        with pytest.raises(ValueError, match=message):
            rlzoo.sweep(tiny, hyper, task)
    with pytest.raises(ValueError, match="in_lanes=0; it must be 1 or more"):
        rlzoo.sweep(tiny, in_lanes=0)
    with pytest.raises(ValueError, match="is a sweep already"):
        rlzoo.sweep(runs)


def test_sweep_grid_over_structure(cartpole, tiny):
    made = list(
        rlzoo.sweep_grid(
            lambda config: ppo.make(cartpole, config),
            {"num_epochs": [1, 2], "activation": ["tanh", "relu"]},
            tiny.config,
            rlzoo.grid(tiny.hyper, gamma=[0.9, 0.99]),
        )
    )
    assert [(c.num_epochs, c.activation) for c, _ in made] == [(1, "tanh"), (1, "relu"), (2, "tanh"), (2, "relu")]
    state, _ = rlzoo.train(made[1][1], KEYS, 1)
    assert state.key.shape == (2, 2)
    with pytest.raises(ValueError, match="did you mean 'num_epochs'"):
        list(rlzoo.sweep_grid(lambda config: ppo.make(cartpole, config), {"num_epoch": [1]}, tiny.config))


def test_lane_of_a_sweep_goes_on_alone(tiny, runs, trained):
    one = rlzoo.lane(trained, 1, 0)
    assert one.key.shape == () and int(one.step) == 3
    alone = rlzoo.setting(runs, 1)
    assert float(alone.hyper.learning_rate) == pytest.approx(1e-2) and alone.hyper.gamma == tiny.hyper.gamma
    more, _ = rlzoo.resume(alone, one, 1)
    assert int(more.step) == 4
    with pytest.raises(ValueError, match="setting 2 is outside the sweep's 2"):
        rlzoo.setting(runs, 2)
    with pytest.raises(ValueError, match="of one agent already"):
        rlzoo.lane(more, 0, 0)
    action = tiny.policy(tiny.actor(rlzoo.lane(trained, 0, 1)), jnp.zeros(4), KEY)
    assert action.shape == ()
    with pytest.raises(ValueError, match=r"lane \(2, 0\) is outside the sweep's lanes \[2, 2\]"):
        rlzoo.lane(trained, 2, 0)


def test_a_sweep_branches_off_one_setting(tiny, runs):
    """Each setting goes on as it would alone from those agents; the agents themselves may still be trained."""
    one = rlzoo.sweep(tiny)
    state, _ = rlzoo.train(one, KEYS, 2)
    branched = rlzoo.branch(state, 2)
    after, _ = rlzoo.resume(runs, branched, 2)
    for i in range(2):
        alone, _ = rlzoo.resume(rlzoo.setting(runs, i), rlzoo.lane(state, 0, 1), 2)
        chex.assert_trees_all_close(rlzoo.lane(after, i, 1).params, alone.params, rtol=1e-5, atol=1e-6)
    assert int(after.step) == 4
    rlzoo.resume(one, state, 1)  # not consumed
    with pytest.raises(ValueError, match=r"lanes \[2, 2\]; it must be of a sweep of one setting"):
        rlzoo.branch(after, 3)
    with pytest.raises(ValueError, match=r"lanes \[\]"):
        rlzoo.branch(alone, 3)


def test_snapshots_are_the_policies_of_one_training(tiny):
    """As training without stops; each kept policy scores what it scored; 7 updates in parts of 2, 2 and 3."""
    seen = []
    kept = rlzoo.snapshots(
        tiny, KEY, 7, count=3, num_episodes=4, eval_key=KEY, each=lambda updates, score: seen.append((updates, score))
    )
    assert kept.num_updates.tolist() == [2, 4, 7] and [x for x, _ in seen] == [2, 4, 7]
    assert_same_bits(kept.state, rlzoo.train(tiny, KEY, 7)[0])
    second, _ = rlzoo.train(tiny, KEY, 4)
    assert_same_bits(kept.actors[1], tiny.actor(second))
    again = rlzoo.evaluate(tiny, tiny.env, second, KEY, 4).returns.mean()
    assert kept.returns[1] == again == seen[1][1] and kept.returns.shape == (3,)
    for count in (0, 8):
        with pytest.raises(ValueError, match=f"count={count} of num_updates=7; it must be 1 to that"):
            rlzoo.snapshots(tiny, KEY, 7, count=count)


def test_a_lane_that_goes_nan_leaves_the_others_alone(tiny):
    broken = rlzoo.sweep(tiny, tiny.hyper._replace(learning_rate=jnp.array([1e-3, 1e38])))
    whole = rlzoo.sweep(tiny, tiny.hyper._replace(learning_rate=jnp.array([1e-3, 1e-3])))
    state, reference = (rlzoo.train(algo, KEYS, 3)[0] for algo in (broken, whole))
    assert_same_bits(rlzoo.lane(state, 0, 1), rlzoo.lane(reference, 0, 1))
    assert not np.isfinite(jax.tree.leaves(rlzoo.lane(state, 1, 0).params)[0]).any()


# --- evaluate --------------------------------------------------------------------------------------------------------


def test_evaluation_is_whole_episodes(tiny):
    """Against a loop in Python over one episode at a time, with the same keys."""
    state, _ = rlzoo.train(tiny, KEY, 2)
    episodes = rlzoo.evaluate(tiny, tiny.env, state, KEY, 3)
    reset_key, run_key = jax.random.split(KEY)
    step_keys = jax.random.split(run_key, tiny.env.horizon)
    actor, step = tiny.actor(state), jax.jit(tiny.env.step)
    act = jax.jit(lambda obs, key: tiny.policy(actor, obs, key, True))
    for lane in range(3):
        obs, inner = tiny.env.reset(jax.random.split(reset_key, 3)[lane], tiny.task)
        total = length = 0.0
        for key in step_keys:
            act_key, env_key = jax.random.split(key)
            inner, now = step(jax.random.split(env_key, 3)[lane], inner, act(obs, act_key), tiny.task)
            obs, total, length = now.obs, total + float(now.reward), length + 1
            if now.terminated or now.truncated:
                break
        assert (float(episodes.returns[lane]), float(episodes.lengths[lane])) == (total, length)


def test_evaluation_is_of_the_mode_or_of_samples_as_asked(tiny):
    def policy(actor, obs, key, deterministic=False):
        return jnp.where(deterministic, jnp.zeros(len(obs), int), jnp.arange(len(obs)) % 2)

    algo = tiny._replace(policy=policy)
    state = rlzoo.init(algo, KEY)
    returns = [rlzoo.evaluate(algo, algo.env, state, KEY, 8, deterministic=mode).returns for mode in (True, False)]
    np.testing.assert_array_equal(returns[0][::2], returns[1][::2])  # where both push to the left
    assert (returns[0][1::2] != returns[1][1::2]).any()


def test_lanes_see_the_same_episodes(tiny):
    """Two lanes with the same policy get the same returns, sampled or not."""
    state, _ = rlzoo.train(tiny, KEY, 1)
    twice = jax.tree.map(lambda x: jnp.stack([jnp.stack([x, x])]), state._replace(step=None))._replace(step=state.step)
    for deterministic in (True, False):
        returns = rlzoo.evaluate(rlzoo.sweep(tiny), tiny.env, twice, KEY, 8, deterministic=deterministic).returns
        np.testing.assert_array_equal(returns[0, 0], returns[0, 1])


def test_evaluation_takes_the_given_environments_parameters(tiny):
    """The algorithm's own environment: what was trained on. Any other: its own parameters."""
    state, _ = rlzoo.train(tiny, KEY, 2)
    short = tiny.env._replace(params=tiny.task.replace(max_steps_in_episode=3))
    assert float(rlzoo.evaluate(tiny, short, state, KEY, 4).lengths.max()) == 3.0
    assert float(rlzoo.evaluate(tiny, tiny.env, state, KEY, 4).lengths.max()) > 3.0


def test_evaluation_refuses_other_actions():
    breakout, asterix = (rlzoo.envs.make(f"gymnax/{name}-MinAtar") for name in ("Breakout", "Asterix"))
    algo = ppo.make(breakout, ppo.Config(num_envs=2, num_steps=4, num_minibatches=2, hidden=(8,)))
    with pytest.raises(ValueError, match=r"Asterix-MinAtar .*n=5.* does not fit; the policy was made for .*n=3"):
        rlzoo.evaluate(algo, asterix, rlzoo.init(algo, KEY), KEY, 1)


def test_evaluation_errors(tiny, trained, runs):
    state = rlzoo.init(tiny, KEY)
    with pytest.raises(ValueError, match="num_episodes=0"):
        rlzoo.evaluate(tiny, tiny.env, state, KEY, 0)
    with pytest.raises(ValueError, match="the policy was made for"):
        rlzoo.evaluate(tiny, rlzoo.envs.make("gymnax/Pendulum-v1"), state, KEY, 1)
    with pytest.raises(ValueError, match="the state is of one agent"):
        rlzoo.evaluate(tiny, tiny.env, state, KEY, 1, task=tiny.task.replace(gravity=jnp.ones(3)))


# --- checkpoints -----------------------------------------------------------------------------------------------------


def test_evaluation_that_does_not_fit_runs_in_parts(runs, trained, tiny, monkeypatch):
    from rlzoo.drivers import memory

    whole = rlzoo.evaluate(runs, tiny.env, trained, KEY, 7)
    errors = rlzoo.value_error(runs, tiny.env, trained, KEY, 7)
    grid = rlzoo.envs.vary(tiny.env, {"gravity": [9.0, 11.0]})
    robust = rlzoo.robustness(runs, tiny.env, trained, KEY, 7, grid)
    sizes, looked = [], evaluating._at_a_time

    def noted(*arguments, **options):
        sizes.append(looked(*arguments, **options))
        return sizes[-1]

    monkeypatch.setattr(evaluating, "_at_a_time", noted)
    lanes = trained.key.size
    programs = evaluating._programs(runs, tiny.env, True, evaluating._checked(runs, tiny.env, trained, 7, None)[1], 2)
    peak = memory.peak(programs(7), trained, runs.task, KEY)
    room = memory.size_in_bytes((trained, runs.task)) + 7 * lanes * evaluating.RESULT + 0.5 * peak
    monkeypatch.setattr(evaluating, "device_memory", lambda: int(room / 0.9))
    assert_same_bits(rlzoo.evaluate(runs, tiny.env, trained, KEY, 7), whole)
    assert sizes == [3]
    assert_close(rlzoo.robustness(runs, tiny.env, trained, KEY, 7, grid), robust, rtol=1e-4)
    monkeypatch.setattr(evaluating, "_at_a_time", lambda *arguments, **options: 3)
    np.testing.assert_allclose(rlzoo.value_error(runs, tiny.env, trained, KEY, 7), errors, rtol=1e-4)
    sampled = rlzoo.evaluate(runs, tiny.env, trained, KEY, 7, deterministic=False)  # other actions, all episodes
    assert sampled.returns.shape == whole.returns.shape and (sampled.lengths >= 1).all()
    monkeypatch.setattr(evaluating, "_at_a_time", looked)
    monkeypatch.setattr(evaluating, "device_memory", lambda: 1000)
    with pytest.raises(ValueError, match="ppo: not even one episode of . agents can be evaluated at a time"):
        rlzoo.evaluate(runs, tiny.env, trained, KEY, 7)


def test_more_episodes_than_fit_are_refused(tiny, trained, runs):
    with pytest.raises(ValueError, match="num_episodes=10000000000; it must be a whole number from 0 to 2,147,483,647"):
        rlzoo.evaluate(runs, tiny.env, trained, KEY, 10**10)
    with pytest.raises(ValueError, match="num_episodes=10000000000"):
        rlzoo.run(runs, KEYS, 1, eval_episodes=10**10)


def test_a_none_among_the_parameters_of_an_environment_is_no_leaf():
    """Of one's own environment, or real Craftax: swept, evaluated, varied, and planned."""
    env = rlzoo.envs.make("probe/constant-reward")
    inner = {"scale": jnp.float32(1.0), "option": None}
    env = env._replace(params=inner)
    algo = ppo.make(env, ppo.Config(num_envs=2, num_steps=8, num_epochs=1, num_minibatches=1, hidden=(4,)))
    runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, gamma=[0.9, 0.99]), inner | {"scale": jnp.array([1.0, 2.0])})
    state, metrics = rlzoo.train(runs, KEYS, 2)
    assert metrics["loss/value"].shape == (2, 2, 2) and state.key.shape == (2, 2)
    assert rlzoo.evaluate(runs, env, state, KEY, 3).returns.shape == (2, 2, 3)
    assert rlzoo.setting(runs, 1).task == {"scale": 2.0, "option": None}
    grid = rlzoo.envs.vary(env, {"scale": [1.0, 2.0, 3.0]})
    assert grid["option"] is None
    found = rlzoo.robustness(runs, env, state, KEY, 3, grid).returns
    np.testing.assert_allclose(found[2], 3.0 * found[0])
    with pytest.raises(ValueError, match="hyper.gamma: 2, task..scale..: 3"):
        rlzoo.sweep(algo, rlzoo.grid(algo.hyper, gamma=[0.9, 0.99]), grid)


def test_save_and_load_of_one_agent_and_of_a_sweep(tiny, runs, trained, tmp_path):
    one = rlzoo.init(tiny, KEY)
    rlzoo.save(tmp_path / "one", tiny, one)
    assert_same_bits(rlzoo.load(tmp_path / "one", tiny), one)
    rlzoo.save(tmp_path / "many", runs, trained)
    loaded = rlzoo.load(tmp_path / "many", runs)
    assert_same_bits(loaded, trained)
    assert type(loaded) is ppo.State


def test_an_algorithm_of_ones_own_needs_no_config_and_no_more_state_than_key_and_clock(cartpole, tmp_path):
    class Hyper(NamedTuple):
        rate: float = 0.5

    class State(NamedTuple):
        total: jax.Array
        key: jax.Array
        step: jax.Array

    def step(state, hyper, task):
        key, draw = jax.random.split(state.key)
        total = state.total + hyper.rate * jax.random.normal(draw)
        return State(total, key, state.step + 1), {"walk/total": total}

    def init(key, hyper, task):
        return State(jnp.float32(0.0), key, jnp.int32(0))

    walk = Algorithm("walk", None, cartpole, Hyper(), {}, init, step, lambda state: (), None, steps_per_update=1)
    runs = rlzoo.sweep(walk, rlzoo.grid(walk.hyper, rate=[0.5, 2.0]))
    state, _ = rlzoo.train(runs, KEYS, 4)
    np.testing.assert_allclose(state.total[1], 4.0 * state.total[0], rtol=1e-6)
    half, _ = rlzoo.train(runs, KEYS, 2)
    rlzoo.save(tmp_path / "walk", runs, half)
    assert_same_bits(rlzoo.resume(runs, rlzoo.load(tmp_path / "walk", runs), 2)[0], state)


class Odd(NamedTuple):
    """Of a State of one's own: anything."""

    x: object
    key: jax.Array
    step: jax.Array


@flax.struct.dataclass
class Struct:
    array: jax.Array
    mode: str = flax.struct.field(pytree_node=False, default="easy")


class Rate(NamedTuple):
    rate: float = 0.5


def odd(key):
    """Containers of every kind, empty ones, leaves of size zero, and of every width of number."""
    wide = jax.config.jax_enable_x64
    return {
        "nothing": [None, {}, (), [], {"a": {"b": ()}}, Struct(None)],
        "names": {"a.b": jnp.ones(2), "a/b": jnp.ones(3), "": jnp.ones(1), " ": jnp.ones(1), "0": jnp.zeros(2)},
        "keys": [{3: jnp.ones(2), 1: jnp.zeros(0)}, {(1, 2): jnp.ones(1), (1, 3): jnp.ones(2)}, {None: jnp.ones(1)}],
        "flags": {True: jnp.array(True), False: jnp.zeros(0, bool)},
        "struct": Struct(jnp.zeros((0, 3)), "hard"),
        "zero": (jnp.zeros((3, 0, 2), jnp.int8), jnp.zeros((0,), jnp.float16), key[:0]),
        "narrow": [jnp.arange(5, dtype=x) for x in ("float16", "bfloat16", "int8", "uint8", "uint16", "int4")],
        "eight": jnp.arange(4.0).astype(jnp.float8_e4m3fn),
        "wide": [jnp.arange(4, dtype=x) for x in (("int64", "float64", "uint64") if wide else ("int32", "float32"))],
        "complex": jnp.array([1 + 2j, 3 - 1j], "complex128" if wide else "complex64"),
        "random": [key, jax.random.key(3, impl="rbg"), jax.random.PRNGKey(0)],
        "numbers": jnp.stack([jnp.float32(x) for x in (-0.0, jnp.nan, jnp.inf)]),
    }


def odd_algorithm(env):
    def init(key, hyper, task):
        return Odd(odd(jax.random.split(key, (2, 3))), key, jnp.int32(0))

    return Algorithm("odd", None, env, Rate(), {}, init, None, None, None, 1)


@pytest.mark.parametrize("wide", [False, True])
def test_any_state_is_saved_and_loaded_bit_for_bit(cartpole, tmp_path, wide):
    with jax.enable_x64(wide):
        algo = odd_algorithm(cartpole)
        for number, (one, key) in enumerate(
            [(algo, KEY), (rlzoo.sweep(algo), KEYS), (algo, jax.random.key(1, impl="rbg"))]
        ):
            state = jax.jit(one.init)(key, one.hyper, {})
            rlzoo.save(tmp_path / str(number), one, state)
            found = rlzoo.load(tmp_path / str(number), one)
            assert jax.tree.structure(found) == jax.tree.structure(state)
            assert_same_bits(found, state)
            assert [x.dtype for x in jax.tree.leaves(found)] == [x.dtype for x in jax.tree.leaves(state)]
            sums = checkpoint._checksums(state)  # of every leaf that has a number, some word counts
            for at, leaf in enumerate(jax.tree.leaves(state)):
                if leaf.size and not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                    other = jax.tree.leaves(state)
                    other[at] = jnp.ones_like(leaf) if (plain(leaf) == 0).all() else jnp.zeros_like(leaf)
                    changed = checkpoint._checksums(other)
                    assert [a == b for a, b in zip(sums, changed, strict=True)].count(False) == 1


def test_a_checkpoint_of_format_2_is_read(tiny, tmp_path):
    """As they were written before: the State as a tree, and a shorter manifest."""
    import orbax.checkpoint as ocp

    state = rlzoo.init(tiny, KEY)
    about = checkpoint.manifest(tiny, state) | {"format": 2, "checksums": checkpoint._checksums(state)}
    about = {name: x for name, x in about.items() if name not in ("own", "recipe", "static", "params", "in_lanes")}
    arguments = {"state": ocp.args.StandardSave(state), "manifest": ocp.args.JsonSave(checkpoint._sealed(about))}
    manager = checkpoint._manager(tmp_path / "checkpoints", keep=3)
    manager.save(1, args=ocp.args.Composite(**arguments))
    manager.close()
    assert_same_bits(rlzoo.load(tmp_path / "checkpoints", tiny), state)
    found = rlzoo.restore(tmp_path)
    assert_same_bits(found.state, state)
    assert found.algo.config == tiny.config
    rlzoo.run(tiny, KEY, 1, directory=tmp_path, resume=True, quiet=True, eval_episodes=0, sinks=())  # and goes on


def test_load_says_which_numbers_are_others(tiny, runs, trained, tmp_path, recwarn):
    rlzoo.save(tmp_path, runs, trained)
    rlzoo.load(tmp_path, runs)
    assert not [x for x in recwarn if "other numbers" in str(x.message)]
    numbers = runs.base.hyper._replace(gamma=0.5)
    other = rlzoo.sweep(runs.base, rlzoo.grid(numbers, learning_rate=[1e-3, 1e-1]))
    with pytest.warns(
        UserWarning, match=r"learning_rate \[0.001\d*, 0.0\d*\], now \[0.001\d*, 0.1\d*\]; gamma 0.99"
    ) as said:
        rlzoo.load(tmp_path, other)
    assert said[0].filename == __file__


def test_restore_makes_environments_again_with_their_options_and_parameters(tmp_path):
    make, wide = rlzoo.envs.make, {"num_envs": 2, "num_steps": 4, "num_minibatches": 1, "hidden": (4,)}
    cartpole, pendulum = make("gymnax/CartPole-v1"), make("gymnax/Pendulum-v1")
    noisy = rlzoo.envs.stochastic(make("probe/delayed-reward", continuous=True), sticky=0.25)
    heavy = cartpole._replace(params=cartpole.params.replace(masspole=0.3))
    for number, env in enumerate(
        (
            make("brax/inverted_pendulum", backend="spring", horizon=7, cached_reset=True),
            noisy,
            rlzoo.envs.stochastic(noisy, reward_noise=0.5),
            rlzoo.envs.adversarial(pendulum, max_force=0.5).env,
            heavy,
        )
    ):
        algo = ppo.make(env, ppo.Config(**wide), ppo.Hyper(gamma=0.5))
        state = blank(algo, KEY)
        rlzoo.save(tmp_path / str(number), algo, state)
        found = rlzoo.restore(tmp_path / str(number))
        assert (found.algo.env.name, found.algo.env.horizon) == (env.name, env.horizon)
        assert found.algo.hyper.gamma == 0.5
        assert_same_bits(found.algo.task, env.params)
        assert_same_bits(found.state, state)
    swept = rlzoo.sweep(algo, task=rlzoo.envs.vary(cartpole, {"gravity": [9.8, 20.0, 30.0]}), in_lanes=2)
    rlzoo.save(tmp_path / "swept", swept, blank(swept, KEYS))
    found = rlzoo.restore(tmp_path / "swept").algo
    assert (found.num_hypers, found.in_lanes) == (3, 2) and list(found.task.gravity) == [
        np.float32(x) for x in (9.8, 20.0, 30.0)
    ]
    assert_same_bits(found.task, swept.task)


def test_restore_says_what_it_cannot_know(tiny, cartpole, tmp_path):
    network = partial(FeedForward, activation=lambda x: jnp.tanh(x))
    own = tiny._replace(config=dataclasses.replace(tiny.config, network=network))
    pushed = cartpole._replace(reset=lambda key, params: cartpole.reset(key, params))  # another function: another env
    odd = odd_algorithm(cartpole)
    cases = {
        "network": (own, "was made with a network of one's own: .*; give network="),
        "env": (ppo.make(pushed, tiny.config), "'gymnax/CartPole-v1' cannot be made again .*; give it: env="),
        "odd": (odd, "is of 'odd', which is none of rlzoo's algorithms; make it, and use rlzoo.load"),
    }
    for name, (algo, message) in cases.items():
        rlzoo.save(tmp_path / name, algo, blank(algo, KEY))
        with pytest.raises(ValueError, match=message):
            rlzoo.restore(tmp_path / name)
    assert rlzoo.restore(tmp_path / "env", env=pushed).algo.env is pushed
    other = pushed._replace(params=pushed.params.replace(masspole=0.3))
    with pytest.raises(ValueError, match="was trained on other parameters of the environment"):
        rlzoo.restore(tmp_path / "env", env=other)
    with pytest.raises(ValueError, match="was trained in 'gymnax/CartPole-v1', given is 'gymnax/Acrobot-v1'"):
        rlzoo.restore(tmp_path / "env", env="gymnax/Acrobot-v1")
    with pytest.raises(ValueError, match="ppo learns online; leave data out"):
        rlzoo.restore(tmp_path / "env", env=pushed, data="medium.npz")
    with pytest.raises(ValueError, match="there is no complete checkpoint"):
        rlzoo.restore(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"holds no checkpoint at update 7; there are \[\d\]"):
        rlzoo.restore(tmp_path / "env", step=7)
    (tmp_path / "sweep" / "part_0").mkdir(parents=True)
    with pytest.raises(ValueError, match="is of several runs; restore one of them: part_0"):
        rlzoo.restore(tmp_path / "sweep")


def test_a_state_of_something_else_is_named(tiny, runs, cartpole, tmp_path):
    one, swept = blank(tiny, KEY), blank(runs, KEYS)
    wide = ppo.make(cartpole, dataclasses.replace(tiny.config, hidden=(8,)))
    deep = ppo.make(cartpole, dataclasses.replace(tiny.config, hidden=(16, 16)))
    three = rlzoo.sweep(tiny, rlzoo.grid(tiny.hyper, learning_rate=[1e-3, 1e-2, 1e-1]), in_lanes=1)
    other = sac.make(cartpole, sac.Config(hidden=(4,), warmup=256))
    for algo, state, message in (
        (other, one, "the state is a rlzoo.algorithms.ppo.State; sac has a rlzoo.algorithms.sac.State"),
        (tiny, (one, {}), r"the state is a tuple; .*; of the pair \(state, metrics\) give the first"),
        (tiny, one.params, "the state is a dict; it must be a State of ppo"),
        (tiny, 3, "the state is a int"),
        (wide, one, r"state.params\S+ is float32\[16\], expected is float32\[8\]; it is of another Config"),
        (deep, one, "state.params has no leaf .*; it is of another Config or environment than this ppo"),
    ):
        key = KEY
        for call in (
            lambda: rlzoo.resume(algo, state, 1),  # noqa: B023
            lambda: rlzoo.evaluate(algo, algo.env, state, key, 1),  # noqa: B023
            lambda: rlzoo.save(tmp_path / "none", algo, state),  # noqa: B023
            lambda: rlzoo.run(algo, key, 1, start=state, eval_episodes=0, quiet=True),  # noqa: B023
        ):
            with pytest.raises(ValueError, match=message):
                call()
    assert not list((tmp_path / "none").glob("save_*"))
    for algo, state, message in (
        (three, swept, r"the state has lanes \[2, 2\], the sweep \[3, S\]"),
        (three, one, r"the state has one agent, the sweep \[3, S\]"),
        (tiny, swept, r"the state has lanes \[2, 2\], the algorithm is of one agent"),
    ):
        with pytest.raises(ValueError, match=message):
            rlzoo.resume(algo, state, 1)


def test_newest_by_saving_not_by_update_and_old_ones_go(tiny, tmp_path):
    states = {n: rlzoo.train(tiny, KEY, n)[0] for n in (1, 2, 3, 4)}
    for n in (4, 3, 1, 2):  # a fresh start may be behind what was saved before
        rlzoo.save(tmp_path, tiny, states[n], keep=3)
    assert_same_bits(rlzoo.load(tmp_path, tiny), states[2])
    assert_same_bits(rlzoo.load(tmp_path, tiny, step=3), states[3])
    with pytest.raises(ValueError, match="holds no checkpoint at update 4; there are \\[1, 2, 3\\]"):
        rlzoo.load(tmp_path, tiny, step=4)


def test_a_checkpoint_of_something_else_is_refused_by_name(tiny, runs, trained, cartpole, tmp_path):
    import dataclasses

    rlzoo.save(tmp_path, tiny, rlzoo.init(tiny, KEY))
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    wide = ppo.make(cartpole, dataclasses.replace(tiny.config, hidden=(32,)))
    acrobot = ppo.make(rlzoo.envs.make("gymnax/Acrobot-v1"), tiny.config)
    renamed = tiny._replace(name="a2c")
    for other, message in (
        (wide, r"config.hidden is \[16\], expected is \[32\]"),
        (acrobot, "env is 'gymnax/CartPole-v1', expected is 'gymnax/Acrobot-v1'"),
        (renamed, "algorithm is 'ppo', expected is 'a2c'"),
    ):
        with pytest.raises(ValueError, match=message):
            rlzoo.load(tmp_path, other)
        with pytest.raises(ValueError, match=message + "; save elsewhere"):
            rlzoo.save(tmp_path, other, rlzoo.init(other, KEY))
    with pytest.raises(ValueError, match="is of one agent; expected is a sweep"):
        rlzoo.load(tmp_path, runs)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    three = rlzoo.sweep(tiny, rlzoo.grid(tiny.hyper, learning_rate=[1e-3, 1e-2, 1e-1]))
    rlzoo.save(tmp_path / "two", runs, trained)
    with pytest.raises(ValueError, match=r"lanes is \[2, 2\], expected is \[3, 2\]"):
        rlzoo.load(tmp_path / "two", three)


def test_a_missing_checkpoint(tiny, tmp_path):
    with pytest.raises(ValueError, match="there is no complete checkpoint"):
        rlzoo.load(tmp_path / "nothing", tiny)
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        rlzoo.save(tmp_path / "file", tiny, rlzoo.init(tiny, KEY))


@pytest.mark.parametrize("damage", ["truncated arrays", "missing arrays", "broken manifest"])
def test_a_damaged_newest_checkpoint_falls_back_and_says_so(tiny, tmp_path, damage):
    first, second = (rlzoo.train(tiny, KEY, n)[0] for n in (1, 2))
    rlzoo.save(tmp_path, tiny, first)
    rlzoo.save(tmp_path, tiny, second)
    newest = tmp_path / "save_2"
    if damage == "broken manifest":
        (newest / "manifest" / "metadata").write_text("{")
    else:
        for path in (newest / "state").rglob("*"):
            if path.is_file() and path.parent.name == "d":
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]) if "trunc" in damage else path.unlink()
    with pytest.warns(UserWarning, match="save_2"):
        assert_same_bits(rlzoo.load(tmp_path, tiny), first)
    shutil.rmtree(tmp_path / "save_1")
    with pytest.raises(ValueError, match="no checkpoint in .* can be read: save_2"):
        rlzoo.load(tmp_path, tiny)
    rlzoo.save(tmp_path, tiny, second)  # a good one can still be written behind it
    assert_same_bits(rlzoo.load(tmp_path, tiny), second)


# --- run -------------------------------------------------------------------------------------------------------------


def test_run_reports_resumes_and_is_bit_equal(runs, tmp_path):
    options = {"directory": tmp_path, "report_every": 3, "eval_episodes": 3, "quiet": True}
    first = rlzoo.run(runs, KEYS, 6, **options)
    assert first.returns.shape == (3, 2, 2, 3) and list(first.env_steps) == [0, 192, 384]
    assert first.metrics["loss/policy"].shape == (6, 2, 2) and not first.failures and not first.interrupted
    second = rlzoo.run(runs, KEYS, 11, resume=True, **options)
    assert second.metrics["loss/policy"].shape == (5, 2, 2)  # three updates and the rest
    assert_same_bits(second.state, rlzoo.train(runs, KEYS, 11)[0])

    rows = sinks.read_csv(tmp_path / "log.csv")
    assert len({(row["update"], row["setting"], row["seed"]) for row in rows}) == len(rows) == 4 * 5
    assert {row["update"] for row in rows} == {0, 3, 6, 9, 11}
    steps, values = sinks.series(tmp_path / "log.csv", "eval/return")
    np.testing.assert_allclose(values[:3], first.returns.mean(-1), rtol=1e-5)
    assert list(steps) == [0, 192, 384, 576, 704]
    lanes = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert lanes == [f"learning_rate={rate},seed={s}" for rate in ("0.001", "0.01") for s in (0, 1)]

    with pytest.raises(ValueError, match="holds a run already"):
        rlzoo.run(runs, KEYS, 4, **options)
    with pytest.raises(ValueError, match="beyond num_updates=5"):
        rlzoo.run(runs, KEYS, 5, resume=True, **options)
    other = rlzoo.sweep(runs.base, rlzoo.grid(runs.base.hyper, learning_rate=[1e-3, 2e-2]))
    with pytest.raises(ValueError, match=r"hyper.learning_rate is \[0.001\d*, 0.0199\d*\], but the run in"):
        rlzoo.run(other, KEYS, 12, resume=True, **options)
    with pytest.raises(ValueError, match="3 seeds are asked for, but the run in .* has 2"):
        rlzoo.run(runs, jax.random.split(KEY, 3), 12, resume=True, **options)


def test_log_lines_from_after_the_checkpoint_are_written_again(runs, tmp_path):
    """A kill between a report and its checkpoint leaves lines that the resumed run repeats: each appears once."""
    options = {"directory": tmp_path, "report_every": 1, "eval_episodes": 0, "quiet": True, "sinks": ("csv",)}
    rlzoo.run(runs, KEYS, 2, **options)
    log = tmp_path / "log.csv"
    lines = log.read_text().splitlines()
    log.write_text("\n".join([*lines, lines[-1].replace("2,128", "3,192", 1), "3,19"]))  # and a line cut short
    rlzoo.run(runs, KEYS, 3, resume=True, **options)
    rows = sinks.read_csv(log)
    assert len({(row["update"], row["setting"], row["seed"]) for row in rows}) == len(rows) == 4 * 4


def test_run_resumes_with_the_same_task_only(tiny, tmp_path):
    options = {"directory": tmp_path, "report_every": 1, "eval_episodes": 0, "quiet": True, "sinks": ()}
    rlzoo.run(tiny, KEY, 1, **options)
    heavy = tiny._replace(task=tiny.task.replace(gravity=20.0))
    with pytest.raises(ValueError, match="has another task"):
        rlzoo.run(heavy, KEY, 2, resume=True, **options)


def test_run_resumes_with_the_same_static_parameters_only(tiny, tmp_path):
    """What is no array is part of the task too, by name; a run from before that was recorded goes on as it did."""
    probe = rlzoo.envs.make("probe/constant-reward")

    def of(mode):
        scaled = lambda params: {"scale": params.array}  # noqa: E731
        env = probe._replace(
            reset=lambda key, params: probe.reset(key, scaled(params)),
            step=lambda key, state, action, params: probe.step(key, state, action, scaled(params)),
            params=Struct(jnp.float32(1), mode),
        )
        return ppo.make(env, tiny.config)

    easy, hard = of("easy"), of("hard")
    rlzoo.run(easy, KEY, 1, directory=tmp_path, eval_episodes=0, quiet=True, sinks=())
    with pytest.raises(
        ValueError, match="Struct.mode of the task is 'hard', but the run in .* has 'easy'; resume with"
    ):
        rlzoo.run(hard, KEY, 2, directory=tmp_path, resume=True, eval_episodes=0, quiet=True, sinks=())
    state = blank(easy, KEY)
    about = manifest.manifest(easy, state)
    manifest.refuse_other_task(easy, about, "out")
    del about["static"]
    manifest.refuse_other_task(hard, about, "out")
    sets = [manifest._said(frozenset(order)) for order in ("abc", "cba")]
    assert sets[0] == sets[1] and "0x" not in manifest._said((object(), lambda: 0, np.zeros(2), {"a": jnp.ones(1)}))


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "scheduler"])
def ctrl_c(request):
    """The signal as in a terminal; what starts a suite in the background may have it ignored."""
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    assert signal.signal(request.param, before) is signal.default_int_handler


def test_ctrl_c_before_the_first_chunk_saves_too(tiny, tmp_path, monkeypatch, ctrl_c):
    from rlzoo.drivers import run as module

    evaluate = module.evaluate

    def interrupting(*args, **kwargs):
        os.kill(os.getpid(), ctrl_c)
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(module, "evaluate", interrupting)
    options = {"directory": tmp_path, "report_every": 2, "quiet": True, "sinks": ()}
    result = rlzoo.run(tiny, KEY, 4, eval_episodes=2, **options)
    assert result.interrupted and int(result.state.step) == 0
    figures = [rlzoo.report.Figure("return", 1.0)]
    with pytest.raises(ValueError, match=r"nothing is recorded of a run that was cut off: .*, 0 of 4 updates"):
        rlzoo.report.record("Half a run", figures, tmp_path / "results")
    whole = rlzoo.run(tiny, KEY, 4, resume=True, eval_episodes=0, **options)
    assert_same_bits(whole.state, rlzoo.train(tiny, KEY, 4)[0])
    rlzoo.report.record("Half a run", figures, tmp_path / "results")


def test_a_log_left_by_a_dead_start_is_begun_anew_and_grows_wider(runs, tmp_path):
    options = {"directory": tmp_path, "report_every": 1, "quiet": True, "sinks": ("csv",)}
    (tmp_path / "log.csv").write_text("update,env_steps,setting,seed\n0,0,0,0\n")
    rlzoo.run(runs, KEYS, 1, eval_episodes=0, **options)
    rlzoo.run(runs, KEYS, 2, eval_episodes=2, resume=True, **options)
    rows = sinks.read_csv(tmp_path / "log.csv")
    assert [row["update"] for row in rows] == [0] * 4 + [1] * 4 + [2] * 4
    assert np.isnan(rows[0]["eval/return"]) and np.isfinite(rows[-1]["eval/return"])


def test_resuming_what_is_not_there_begins(tiny, runs, tmp_path, capsys):
    options = {"eval_episodes": 0, "sinks": ("csv",), "report_every": 2}
    (tmp_path / "log.csv").write_text("update,env_steps,setting,seed\n7,0,0,0\n")  # of a start that was killed
    state = rlzoo.run(tiny, KEY, 2, directory=tmp_path, resume=True, **options).state
    assert f"nothing is saved in {tmp_path} yet: this is the beginning" in capsys.readouterr().out
    assert_same_bits(state, rlzoo.train(tiny, KEY, 2)[0])
    assert [row["update"] for row in sinks.read_csv(tmp_path / "log.csv")] == [0, 2]
    with pytest.raises(ValueError, match="needs the directory"):
        rlzoo.run(runs, KEYS, 1, resume=True)
    with pytest.raises(ValueError, match="log.csv is a file; a run needs a directory"):
        rlzoo.run(runs, KEYS, 1, directory=tmp_path / "log.csv")
    with pytest.raises(ValueError, match="unknown sink 'cvs'; did you mean 'csv'"):
        rlzoo.run(runs, KEYS, 1, directory=tmp_path / "new", sinks=("cvs",))
    assert not (tmp_path / "new").exists()


class Collected:
    """A sink of one's own."""

    def __init__(self):
        self.about, self.rows, self.closed = None, [], 0

    def begin(self, about):
        self.about = about

    def write(self, rows):
        self.rows += rows

    def close(self):
        self.closed += 1


def test_a_callback_sees_every_chunk_and_may_stop_the_run(runs, tmp_path, capsys):
    seen, own = [], Collected()

    def callback(state, metrics, episodes):
        seen.append((int(state.step), metrics["loss/policy"].shape, episodes.returns.shape))
        return np.bool_(state.step == 4)

    options = {"directory": tmp_path, "report_every": 2, "eval_episodes": 3}
    result = rlzoo.run(runs, KEYS, 8, callback=callback, sinks=[own, "csv"], **options)
    assert seen == [(step, (2, 2, 2), (2, 2, 3)) for step in (2, 4)]
    assert int(result.state.step) == 4 and not result.interrupted
    assert "stopped by the callback after update 4 of 8; saved. Go on with: run(" in capsys.readouterr().out
    assert own.closed == 1 and own.about["seeds"] == [2] and own.about["config"]["hidden"] == [16]
    assert json.loads(json.dumps(own.about)) == own.about
    assert [row["update"] for row in own.rows[::4]] == [0, 2, 4] and len(own.rows) == 12

    def breaks(state, metrics, episodes):
        assert episodes is None
        raise RuntimeError("enough")

    options |= {"resume": True, "eval_episodes": 0, "quiet": True}
    with pytest.raises(RuntimeError, match="enough"):
        rlzoo.run(runs, KEYS, 8, callback=breaks, sinks=[own], **options)
    assert own.closed == 2 and int(rlzoo.load(tmp_path / "checkpoints", runs).step) == 6
    result = rlzoo.run(runs, KEYS, 8, callback=lambda *_: None, sinks=(), **options)
    assert_same_bits(result.state, rlzoo.train(runs, KEYS, 8)[0])


def test_sinks_and_callbacks_that_are_none_are_named(tiny):
    options = {"eval_episodes": 0, "quiet": True}
    for given, message in (
        ({"sinks": ("csv",)}, r"sinks=\('csv',\) write into a directory; give directory="),
        ({"sinks": "csv"}, r"sinks=\('csv',\) write into a directory"),
        ({"sinks": [3]}, r"the sink int is no object with write\(rows\) and close\(\)"),
        ({"sinks": [Collected]}, "the sink class Collected is no object"),
        ({"callback": 3}, "callback is a int; it must be a function"),
        ({"callback": lambda *_: 3.0}, "the callback returned a float; it must return True to stop"),
    ):
        with pytest.raises(ValueError, match=message):
            rlzoo.run(tiny, KEY, 1, **given, **options)


def test_a_lane_whose_parameters_are_not_finite_is_named(tiny):
    """Even if its metrics are: what the next update does with such parameters is not known."""

    def step(state, hyper, task):
        state, metrics = tiny.step(state, hyper, task)
        leaves, structure = jax.tree.flatten(state.params)
        leaves[-1] = jnp.where(hyper.gamma < 0.6, jnp.inf, leaves[-1])
        metrics = jax.tree.map(lambda x: jnp.nan_to_num(x), metrics)
        return state._replace(params=jax.tree.unflatten(structure, leaves)), metrics

    path = jax.tree_util.keystr(jax.tree_util.tree_leaves_with_path(blank(tiny, KEY).params)[-1][0])
    one = tiny._replace(step=step, hyper=tiny.hyper._replace(gamma=0.5))
    broken = rlzoo.sweep(one, rlzoo.grid(one.hyper, gamma=[0.9, 0.5]))
    options = {"report_every": 1, "eval_episodes": 0, "quiet": True}
    found = rlzoo.run(broken, KEYS, 2, **options).failures
    assert [(x.setting, x.seed, x.update, x.metric) for x in found] == [
        (1, seed, 1, f"params{path}") for seed in (0, 1)
    ]
    found = rlzoo.run(one, KEY, 1, **options).failures
    assert [(x.setting, x.seed, x.update, x.metric) for x in found] == [(0, 0, 1, f"params{path}")]
    assert found[0].hyper["gamma"] == 0.5


def test_the_progress_says_how_many_episodes_its_return_is_of(tiny, capsys):
    result = rlzoo.run(tiny, KEY, 2, report_every=2, eval_episodes=0)
    ended = int(result.metrics["episode/count"].sum())
    assert ended and f" of {ended} episodes that ended" in capsys.readouterr().out


def test_run_reports_the_lane_that_fails(tiny, capsys):
    broken = rlzoo.sweep(tiny, tiny.hyper._replace(learning_rate=jnp.array([1e-3, 1e38])))
    result = rlzoo.run(broken, KEYS, 4, report_every=2, eval_episodes=0)
    assert [(f.setting, f.seed, f.update) for f in result.failures] == [(1, 0, 1), (1, 1, 1)]
    assert result.failures[0].hyper["learning_rate"] > 1e37 and result.failures[0].metric == "loss/policy"
    text = capsys.readouterr().out
    assert "lane (setting 1, seed 0) is non-finite since update 1 (loss/policy); learning_rate=1e+38" in text
    assert np.isfinite(result.metrics["loss/policy"][:, 0]).all()


def test_ctrl_c_finishes_the_chunk_saves_and_says_how_to_go_on(tiny, tmp_path, capsys, ctrl_c, monkeypatch):
    """The signal arrives after the first chunk: that chunk counts, the state is saved, and resuming ends the run."""
    calls = []

    class Interrupting(sinks.CsvSink):
        def write(self, rows):
            calls.append(rows[0]["update"])
            if rows[0]["update"] == 2:
                os.kill(os.getpid(), ctrl_c)
            super().write(rows)

    options = {"directory": tmp_path, "report_every": 2, "eval_episodes": 0, "sinks": ("csv",)}
    with monkeypatch.context() as patch:
        patch.setitem(sinks.SINKS, "csv", Interrupting)
        result = rlzoo.run(tiny, KEY, 6, **options)
    assert result.interrupted and int(result.state.step) == 2 and calls == [0, 2]
    text = capsys.readouterr().out
    assert "stopped after update 2 of 6; saved. Go on with: run(..., directory=" in text
    assert signal.getsignal(ctrl_c) is signal.default_int_handler
    whole = rlzoo.run(tiny, KEY, 6, resume=True, quiet=True, **options)
    assert_same_bits(whole.state, rlzoo.train(tiny, KEY, 6)[0])


def test_evaluating_in_a_run_changes_nothing(tiny):
    with_, without = (rlzoo.run(tiny, KEY, 3, report_every=1, eval_episodes=n, quiet=True).state for n in (2, 0))
    assert_same_bits(with_, without)


def test_manifest_says_what_was_saved(tiny, tmp_path):
    state = rlzoo.init(tiny, KEY)
    about = checkpoint.manifest(tiny, copy(state))
    assert json.loads(json.dumps(about)) == about
    assert about["algorithm"] == "ppo" and about["env"] == "gymnax/CartPole-v1" and about["config"]["hidden"] == [16]
    assert about["leaves"][".key"].startswith("key<fry>") and {"jax", "rlzoo"} <= set(about["versions"])


def test_a_network_with_a_function_is_known_again_in_another_process(tiny):
    """There the function has another address, which is no part of what was saved."""
    state = rlzoo.init(tiny, KEY)

    def about():
        network = partial(FeedForward, activation=lambda x: jnp.tanh(x))
        return checkpoint.manifest(tiny._replace(config=dataclasses.replace(tiny.config, network=network)), state)

    first, second = about(), about()
    assert first == second and "<lambda>" in first["config"]["network"]


# --- value error ------------------------------------------------------------------------------------------------------


def test_value_error_by_hand(tiny):
    """Two steps with rewards 0 and 1: V = 2.5 and 4, G = 0.5 + gamma 4 and 4; the error is the mean of V - G."""
    env = rlzoo.envs.make("probe/delayed-reward")
    algo = ppo.make(env, tiny.config)._replace(
        value=lambda state, hyper, obs, action: (2.0 + obs[:, 0], 0.5 + 0.5 * obs[:, 0])
    )
    state = rlzoo.init(algo, jax.random.key(0))
    found = rlzoo.value_error(algo, env, state, jax.random.key(1), 3)
    np.testing.assert_allclose(found, [(2.5 - 0.5 - 0.99 * 4.0) / 2] * 3, rtol=1e-5)

    runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, gamma=[0.5, 1.0]))
    state = rlzoo.init(runs, jax.random.split(jax.random.key(0), 2))
    found = rlzoo.value_error(runs, env, state, jax.random.key(1), 3)
    assert found.shape == (2, 2, 3)
    np.testing.assert_allclose(found[:, 0, 0], [(2.0 - 2.0) / 2, (2.0 - 4.0) / 2], atol=1e-6)


def test_value_error_is_in_the_rewards_own_units():
    """Rewards of +-100, scaled for learning: V is in the hundreds again, and of one step V = G."""
    env = rlzoo.envs.make("probe/reward-by-obs")
    env = env._replace(params={"scale": jnp.float32(100.0)})
    config = ppo.Config(num_envs=16, num_steps=16, num_minibatches=4, hidden=(16,))
    algo = ppo.make(env, config, ppo.Hyper(learning_rate=5e-3))
    state, _ = rlzoo.train(algo, jax.random.key(0), 100)
    value, _ = algo.value(state, algo.hyper, jnp.array([[-1.0], [1.0]]), jnp.zeros(2))
    np.testing.assert_allclose(value, [-100.0, 100.0], rtol=0.1)
    assert float(abs(rlzoo.value_error(algo, env, state, jax.random.key(1), 4)).max()) < 1e-3


def test_value_error_is_finite_at_the_border_of_the_box():
    """A policy that has saturated acts at exactly 1, where tanh has no inverse."""
    env = rlzoo.envs.make("gymnax/Pendulum-v1")
    algo = sac.make(env, sac.Config(batch_size=16, capacity=64, warmup=32, hidden=(8,)))
    state = rlzoo.init(algo, jax.random.key(0))
    head = state.params.actor["params"]["head"]
    head["bias"] = head["bias"].at[0].set(50.0)
    assert float(algo.policy(state.params.actor, jnp.zeros((1, 3)), jax.random.key(0), True)[0, 0]) == 2.0
    assert np.isfinite(rlzoo.value_error(algo, env, state, jax.random.key(1), 2)).all()


def test_no_critic_no_value_error(tiny):
    with pytest.raises(ValueError, match="ppo has no critic"):
        rlzoo.value_error(tiny._replace(value=None), tiny.env, None, jax.random.key(0), 1)
