"""The contract that every algorithm keeps (DESIGN 10), parametrised: an algorithm joins with one line in CASES."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, assert_same_bits, copy, named_leaves

import rlzoo
from rlzoo import ppo
from rlzoo.drivers.train import float32

SMALL = {"num_envs": 4, "num_steps": 16, "num_epochs": 2, "num_minibatches": 2, "hidden": (16,)}


class Case(NamedTuple):
    module: Any
    env: str
    config: Any
    hyper: dict[str, float]  # numbers at which every other number has an effect
    shared: tuple[str, ...] = ()  # leaves that are rightly equal for two seeds
    bad: tuple[tuple[dict[str, Any], str], ...] = ()  # wrong Config values, and what the error must say


# Every number matters only where nothing else switches it off: annealing on, a value clip and a norm that bind.
PPO_HYPER = {
    "learning_rate": 3e-3,
    "anneal_steps": 1e4,
    "entropy_coef": 0.01,
    "max_grad_norm": 0.1,
    "value_clip_eps": 0.05,
    "clip_eps": 0.02,
}
PPO_SHARED = (".obs_moments.samples", ".return_moments.samples", ".step", ".count")
PPO_BAD = (
    ({"num_envs": 0}, "num_envs=0; it must be a whole number, 1 or more"),
    ({"num_steps": 2.5}, "num_steps=2.5; it must be a whole number"),
    ({"num_minibatches": 7}, "num_minibatches=7 does not divide num_envs \\* num_steps = 64; use 4 or 8"),
    ({"num_minibatches": 64}, "leaves one transition in each"),
    ({"activation": "tahn"}, "unknown activation 'tahn'; did you mean 'tanh'"),
    ({"hidden": 64}, "hidden=64; it must be a tuple"),
    ({"init_std": 0.0}, "init_std=0.0; it must be positive"),
    ({"nmu_envs": 4}, "unknown ppo.Config field 'nmu_envs'; did you mean 'num_envs'"),
)

CASES = {
    "ppo discrete": Case(ppo, "gymnax/CartPole-v1", ppo.Config(**SMALL), PPO_HYPER, PPO_SHARED, PPO_BAD),
    "ppo continuous": Case(ppo, "gymnax/Pendulum-v1", ppo.Config(**SMALL), PPO_HYPER, (*PPO_SHARED, ".episode_length")),
    "ppo pixels": Case(ppo, "gymnax/Breakout-MinAtar", ppo.Config(**SMALL), PPO_HYPER, PPO_SHARED),
}


class Built(NamedTuple):
    case: Case
    algo: Any
    runs: Any  # two settings of gamma; keys give two seeds


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "-"))
def built(request):
    case = CASES[request.param]
    env = rlzoo.envs.make(case.env)
    algo = case.module.make(env, case.config, case.module.Hyper(**case.hyper))
    return Built(case, algo, rlzoo.sweep(algo, rlzoo.grid(algo.hyper, gamma=[0.9, 0.99])))


KEY = jax.random.key(7)
KEYS = jax.random.split(KEY, 2)


@pytest.fixture(scope="module")
def trained(built):
    """Three updates of one agent, with their metrics."""
    return rlzoo.train(built.algo, KEY, 3)


@pytest.fixture(scope="module")
def swept(built):
    """Six updates of the sweep at once."""
    return rlzoo.train(built.runs, KEYS, 6)[0]


def test_step_keeps_shapes_dtypes_and_weak_types(built):
    state = rlzoo.init(built.algo, KEY)
    after, _ = jax.eval_shape(built.algo.step, state, float32(built.algo.hyper), built.algo.task)
    before = jax.eval_shape(lambda x: x, state)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        assert (old.shape, old.dtype, old.weak_type) == (new.shape, new.dtype, new.weak_type), jax.tree_util.keystr(
            path
        )
        assert not old.weak_type, jax.tree_util.keystr(path)


def test_state_has_the_clock_and_a_typed_key(built):
    state = rlzoo.init(built.runs, KEYS)
    assert state.step.shape == () and state.step.dtype == jnp.int32
    assert state.key.shape == (2, 2) and jnp.issubdtype(state.key.dtype, jax.dtypes.prng_key)


@pytest.mark.parametrize("kind", ["one agent", "sweep"])
def test_one_compile_across_train_save_load_resume(built, tmp_path, kind):
    traces = []

    def counted(state, hyper, task):
        traces.append(1)
        return built.algo.step(state, hyper, task)

    algo = built.algo._replace(step=counted)
    algo, key = (algo, KEY) if kind == "one agent" else (rlzoo.sweep(algo, built.runs.hyper), KEYS)
    state, _ = rlzoo.train(algo, key, 2)
    rlzoo.save(tmp_path, algo, state)
    state, _ = rlzoo.resume(algo, rlzoo.load(tmp_path, algo), 2)
    if kind == "sweep":  # other values of the same leaves are the same program
        other = rlzoo.sweep(algo.base, rlzoo.grid(algo.base.hyper, gamma=[0.5, 0.6]))
        rlzoo.train(other, key, 2)
    assert len(traces) == 1


def test_resumed_sweep_is_bit_equal_through_a_checkpoint(built, swept, tmp_path):
    half, _ = rlzoo.train(built.runs, KEYS, 3)
    rlzoo.save(tmp_path, built.runs, half)
    resumed, _ = rlzoo.resume(built.runs, rlzoo.load(tmp_path, built.runs), 3)
    assert_same_bits(resumed, swept)


def test_resumed_agent_is_bit_equal_and_evaluating_changes_nothing(built, tmp_path):
    whole, _ = rlzoo.train(built.algo, KEY, 6)
    half, _ = rlzoo.train(built.algo, KEY, 3)
    before = copy(half)
    rlzoo.evaluate(built.algo, built.algo.env, half, jax.random.key(1), 2)
    assert_same_bits(before, half)
    resumed, _ = rlzoo.resume(built.algo, half, 3)
    assert_same_bits(resumed, whole)


def test_lane_is_the_same_run_alone(built):
    state, metrics = rlzoo.train(built.runs, KEYS, 2)
    for setting, seed in ((0, 1), (1, 0)):
        hyper = built.algo.hyper._replace(gamma=built.runs.hyper.gamma[setting])
        alone, alone_metrics = rlzoo.train(built.algo._replace(hyper=hyper), KEYS[seed], 2)
        assert_close(rlzoo.lane(state, setting, seed).params, alone.params, rtol=1e-3, atol=1e-4)
        lane_metrics = jax.tree.map(lambda x: x[:, setting, seed], metrics)  # noqa: B023
        assert_close(lane_metrics, alone_metrics, rtol=2e-2, atol=2e-3)


def test_two_seeds_differ_in_every_leaf_they_should(built, swept):
    first, second = (dict(named_leaves(rlzoo.lane(swept, 0, seed))) for seed in (0, 1))
    same = {name for name in first if np.array_equal(first[name], second[name])}
    # An environment's own state may hold constants and counters; everything else is listed in the case.
    left = {name for name in same if not name.startswith(".envs.state") and not name.endswith(built.case.shared)}
    assert not left
    assert any(name not in same for name in first if name.startswith(".envs.state"))


def test_state_is_donated(built):
    state = rlzoo.init(built.algo, KEY)
    rlzoo.resume(built.algo, state, 1)
    assert all(x.is_deleted() for x in jax.tree.leaves(state))


def test_every_hyper_has_an_effect(built):
    """Each number is moved in a lane of its own; some leaf of the State must notice within three updates."""
    hyper = built.algo.hyper
    moved = {name: (0.1 if math.isinf(value) else 0.5 * value + 1e-3) for name, value in hyper._asdict().items()}
    moved["target_kl"] = 1e-7
    names = list(moved)
    rows = [hyper._asdict()] + [hyper._asdict() | {name: moved[name]} for name in names]
    table = type(hyper)(*(jnp.array([row[name] for row in rows], jnp.float32) for name in hyper._fields))
    state, _ = rlzoo.train(rlzoo.sweep(built.algo, table), KEYS[:1], 3)
    base = named_leaves(rlzoo.lane(state, 0, 0))
    for i, name in enumerate(names):
        lane = named_leaves(rlzoo.lane(state, i + 1, 0))
        assert any(not np.array_equal(a, b) for (_, a), (_, b) in zip(base, lane, strict=True)), f"{name} has no effect"


def test_wrong_config_says_what_to_do(built):
    for fields, message in built.case.bad:
        with pytest.raises(ValueError, match=message):
            built.case.module.Config(**(SMALL | fields))


def test_unknown_names_raise(built):
    with pytest.raises(ValueError, match="did you mean 'gamma'"):
        rlzoo.grid(built.algo.hyper, gama=[0.9])
    with pytest.raises(ValueError, match="unknown preset"):
        built.case.module.presets["no such preset"]


def test_metrics_are_named_finite_scalars(built, trained):
    _, metrics = trained
    for name, values in metrics.items():
        assert name.count("/") == 1 and name == name.lower(), name
        assert values.shape == (3,) and values.dtype == jnp.float32, name
        assert np.isfinite(values).all(), name
    assert {"episode/return_sum", "episode/length_sum", "episode/count"} <= set(metrics)


def test_actions_stay_in_the_action_space(built, trained):
    algo, actor = built.algo, built.algo.actor(trained[0])
    obs = 1e3 * jax.random.normal(KEY, (256, *algo.env.obs_space.shape))
    for deterministic in (False, True):
        action = algo.policy(actor, obs, KEY, deterministic)
        assert action.shape == (256, *algo.env.action_space.shape)
        assert jax.vmap(algo.env.action_space.contains)(action).all()


def test_steps_per_update_is_what_the_environments_took(built):
    """Episodes that ended plus those under way account for every step."""
    state, metrics = rlzoo.train(built.algo, KEY, 3)
    counted = float(metrics["episode/length_sum"].sum() + state.envs.episode_length.sum())
    assert counted == 3 * built.algo.steps_per_update
