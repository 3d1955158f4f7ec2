"""Evaluate a State: whole episodes, apart from training."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo import machine
from rlzoo.drivers import memory
from rlzoo.drivers.sweep import Axes, lanes_of, swept_axes, swept_lengths
from rlzoo.drivers.train import check_state, float32
from rlzoo.machine import SHARE, device_memory, in_bytes
from rlzoo.types import Algorithm, Env, environment

# Evaluation during training has a key of its own, the same for every run, and far from those that users train with.
EVALUATION_SEED = 2**31 - 1

MOST_EPISODES = 2**31 - 1
RESULT = 16  # bytes of an episode's return and length, twice while parts are put together
MODEST = 4 * 2**20  # bytes that an episode may take before it is measured how many fit


class Episodes(NamedTuple):
    """Whole episodes; a sweep adds [H, S] in front."""

    returns: jax.Array  # f32[num_episodes], undiscounted
    lengths: jax.Array  # f32[num_episodes], steps


def normalised(references: tuple[float, float], returns: np.ndarray) -> np.ndarray:
    """100 (R - random) / (expert - random) of returns, D4RL's score."""
    random, expert = references
    return 100.0 * (returns - random) / (expert - random)


def evaluate(
    algo: Algorithm,
    env: Env,
    state: Any,
    key: jax.Array,
    num_episodes: int,
    task: Any = None,
    deterministic: bool = True,
) -> Episodes:
    """Run ``num_episodes`` episodes of every lane's policy.

    What does not fit into memory at once runs in parts: the same resets and noise, and of a policy that draws nothing
    the same returns to float tolerance; actions that are sampled are drawn anew for each part.

    Training is untouched: the keys come from ``key``, never from the State. Give another one than to training, whose
    resets it would meet again. All lanes see the same episodes (the same resets and noise), which makes the
    differences between them sharper. An episode is counted from a reset to its end; observation statistics are frozen.

    Args:
        env: may differ from the training environment; its spaces must not.
        task: environment parameters; a leaf with one more axis than ``env.params`` goes along the settings [H].
            Default: those trained on if ``env`` is the algorithm's own, otherwise ``env.params``.
        deterministic: act by the mode of the policy; False samples.
    Returns:
        returns and lengths, f32[num_episodes], for a sweep f32[H, S, num_episodes].
    """
    task, axes = _checked(algo, env, state, num_episodes, task)
    programs = _programs(algo, env, deterministic, axes, state.key.ndim)
    return _in_parts(algo, programs, num_episodes, state, task, key)


def robustness(
    algo: Algorithm,
    env: Env,
    state: Any,
    key: jax.Array,
    num_episodes: int,
    task: Any,
    deterministic: bool = True,
) -> Episodes:
    """Evaluate every lane's policy at M parameters of an environment, in one program.

        grid = rlzoo.envs.vary(env, {"m": np.linspace(0.5, 1.5, 11), "l": np.linspace(0.5, 1.5, 11)})
        returns = rlzoo.robustness(runs, env, state, key, 16, grid).returns        # [121, H, S, 16]

    All policies see the same episodes at the same parameters.

    What does not fit into memory runs point after point, to float tolerance.

    Args: as for `evaluate`, but for
        task: parameters whose changed leaves have one more axis [M] than ``env.params``, as of `rlzoo.envs.vary`.
    Returns:
        returns and lengths, f32[M, num_episodes], for a sweep f32[M, H, S, num_episodes].
    Raises:
        ValueError: no leaf has that axis, or their lengths differ.
    """
    _checked(algo, env, state, num_episodes, environment(env, "robustness").params)
    axes = Axes(swept_axes(env.params, task, "task"))
    lengths = set(swept_lengths(task, axes.tree, "task").values())
    if len(lengths) != 1:
        what = f"have lengths {sorted(lengths)}" if lengths else "are missing"
        raise ValueError(
            f"the varied parameters {what}; they must have one more axis of one length; see rlzoo.envs.vary"
        )
    static = (env.reset, env.step, env.horizon, num_episodes, deterministic)
    program = _robustness(algo.actor, algo.policy, *static, axes, state.key.ndim)
    num_points = lengths.pop()
    machine.refuse_more("episodes to evaluate", num_points * num_episodes, RESULT * _lanes(state))
    if _at_a_time(algo, program, num_points * num_episodes, state, task, key) == num_points * num_episodes:
        return program(state, task, key)
    points = [axes.at(point, task) for point in range(num_points)]
    found = [evaluate(algo, env, state, key, num_episodes, point, deterministic) for point in points]
    return jax.tree.map(lambda *x: jnp.stack(x), *found)


def value_error(
    algo: Algorithm,
    env: Env,
    state: Any,
    key: jax.Array,
    num_episodes: int,
    task: Any = None,
    deterministic: bool = True,
) -> jax.Array:
    """By how much the critic overestimates, on average over the steps of each episode (arXiv:2601.00737, code).

        V_t = Q(s_t, a_t) + b_t,   b_t = -alpha log pi(a_t | s_t)
        G_t = r_t + b_t + gamma G_{t+1},   G_{T-1} = V_{T-1}
        error = mean_t (V_t - G_t)

    Positive: overestimated. The last step's own value stands for what would follow it. Of algorithms without an
    entropy in their return b = 0, and of those that value states Q(s, a) is V(s). In deterministic episodes the action
    is moved off the border of its box, where it would have no finite log-probability.

    Args: as for `evaluate`.
    Returns:
        errors in reward units, f32[num_episodes], for a sweep f32[H, S, num_episodes].
    Raises:
        ValueError: the algorithm has no critic.
    """
    if algo.value is None:
        raise ValueError(f"{algo.name} has no critic, and so no value error")
    task, axes = _checked(algo, env, state, num_episodes, task)
    hyper = float32(algo.hyper)
    default = algo.hyper if algo.base is None else algo.base.hyper
    hyper_axes = Axes(swept_axes(default, hyper, "hyper"))

    def programs(num_episodes: int, total: int | None = None) -> Any:
        static = (env.reset, env.step, env.horizon, num_episodes, deterministic)
        lanes = state.key.ndim
        return _value_errors(algo.actor, algo.policy, algo.value, *static, axes, hyper_axes, lanes, total)

    return _in_parts(algo, programs, num_episodes, state, hyper, task, key)


def default_task(algo: Algorithm, env: Env) -> Any:
    """What was trained on, if ``env`` is the algorithm's own; otherwise the environment's parameters."""
    return algo.task if env is algo.env and not algo.offline else env.params


def needed(algo: Algorithm, state: Any, num_episodes: int) -> float:
    """Bytes of an evaluation of a State (or its shapes) in the algorithm's own environment, as it will be run."""
    task, axes = _checked(algo, algo.env, state, num_episodes, None)
    programs = _programs(algo, algo.env, True, axes, state.key.ndim)
    arguments = state, task, jax.random.key(0)
    share = _at_a_time(algo, programs(num_episodes), num_episodes, *arguments, exactly=True) / num_episodes
    results = RESULT * _lanes(state) * num_episodes
    return results + share * memory.peak(programs(num_episodes), *arguments)


def refuse(num_episodes: int, num_lanes: int) -> None:
    """Raise for more episodes of so many lanes than the memory can hold returns of; says how many fit."""
    if not isinstance(num_episodes, int | np.integer) or not 0 <= num_episodes <= MOST_EPISODES:
        raise ValueError(f"num_episodes={num_episodes!r}; it must be a whole number from 0 to {MOST_EPISODES:,}")
    machine.refuse_more(f"episodes in an evaluation of {num_lanes:,} agents", num_episodes, RESULT * num_lanes)


def _lanes(state: Any) -> int:
    return math.prod(state.key.shape)


def _programs(algo: Algorithm, env: Env, deterministic: bool, axes: Axes, lanes: int) -> Callable[..., Any]:
    """The program of so many episodes, all, or a part of a total."""

    def of(num_episodes: int, total: int | None = None) -> Any:
        static = (env.reset, env.step, env.horizon, num_episodes, deterministic)
        return _evaluation(algo.actor, algo.policy, *static, axes, lanes, total)

    return of


def _in_parts(algo: Algorithm, programs: Callable[..., Any], num_episodes: int, *arguments: Any) -> Any:
    """All episodes at once if they fit into memory; otherwise as many at a time as do."""
    whole = programs(num_episodes)
    size = _at_a_time(algo, whole, num_episodes, *arguments)
    if size == num_episodes:
        return whole(*arguments)
    part, found = programs(size, num_episodes), []
    for first in range(0, num_episodes, size):
        start = min(first, num_episodes - size)  # the last part begins earlier, so that it is the same program
        episodes = part(*arguments, jnp.int32(start))
        found.append(jax.tree.map(lambda x, skip=first - start: x[..., skip:], episodes))
    return jax.tree.map(lambda *x: jnp.concatenate(x, axis=-1), *found)


def _at_a_time(algo: Algorithm, program: Any, num_episodes: int, *arguments: Any, exactly: bool = False) -> int:
    """How many of the episodes of a program fit into what their arguments and results leave of the memory.

    Few episodes, which may take up to 4 MiB each, are not looked at, unless ``exactly``.
    """
    limit, lanes = device_memory(), _lanes(arguments[0])
    if limit is not None and algo.devices and jax.default_backend() != "cpu":
        limit *= len(algo.devices)
    if limit is None or (lanes * num_episodes * MODEST < limit and not exactly):
        return num_episodes
    kept = memory.size_in_bytes(jax.tree.map(jnp.asarray, arguments[1:-1])) + memory.size_in_bytes(arguments[0])
    left = SHARE * limit - kept - RESULT * lanes * num_episodes
    size = math.floor(num_episodes * left / max(1, memory.peak(program, *arguments)))
    if size < 1:
        raise ValueError(
            f"{algo.name}: not even one episode of {lanes:,} agents can be evaluated at a time beside their state: it "
            f"takes {in_bytes(memory.peak(program, *arguments) / num_episodes)}, and {in_bytes(max(0.0, left))} are "
            "left; use fewer lanes"
        )
    return min(size, num_episodes)


def _checked(algo: Algorithm, env: Env, state: Any, num_episodes: int, task: Any) -> tuple[Any, Axes]:
    """The task to evaluate on and its axes, or a `ValueError` that says what does not fit."""
    environment(env, "an evaluation")
    if num_episodes < 1:
        raise ValueError(f"num_episodes={num_episodes}; it must be 1 or more")
    check_state(algo, state, lanes=False)
    refuse(num_episodes, _lanes(state))
    if env.obs_space.shape != algo.env.obs_space.shape or env.action_space != algo.env.action_space:
        spaces = [f"{e.name} (obs {list(e.obs_space.shape)}, actions {e.action_space})" for e in (env, algo.env)]
        raise ValueError(f"{spaces[0]} does not fit; the policy was made for {spaces[1]}")
    if task is None:
        task = default_task(algo, env)
    axes = Axes(swept_axes(env.params, task, "task"))
    if not state.key.ndim and any(axis is not None for axis in axes.leaves):
        raise ValueError(
            "task has a swept leaf, but the state is of one agent; sweep the algorithm, or give one task; or evaluate "
            "this agent at all of them, rlzoo.robustness"
        )
    lengths = set(swept_lengths(task, axes.tree, "task").values())
    if lengths and lengths != {state.key.shape[0]}:
        raise ValueError(
            f"task has swept leaves of length {sorted(lengths)}, and the state has {state.key.shape[0]} settings; a "
            "task goes along the settings; for every agent at every task, rlzoo.robustness"
        )
    return task, axes


def _episodes(policy, reset, step, horizon, num_episodes, deterministic, actor, task, key, watch, part=None):
    """``num_episodes`` episodes side by side, and what ``watch(obs, action, reward, alive)`` saw, [horizon, ...].

    ``part``: the first of them, and of how many they are a part, whose keys they have.
    """

    def keys(key):
        if part is None:
            return jax.random.split(key, num_episodes)
        return jax.lax.dynamic_slice_in_dim(jax.random.split(key, part[1]), part[0], num_episodes)

    reset_key, run_key = jax.random.split(key)
    obs, state = jax.vmap(reset, (0, None))(keys(reset_key), task)

    # A loop of fixed length with a mask: under vmap, a while loop would run to the slowest lane anyway.
    def one(carry, key):
        state, obs, total, length, alive = carry
        act_key, env_key = jax.random.split(key)
        action = policy(actor, obs, act_key if part is None else jax.random.fold_in(act_key, part[0]), deterministic)
        state, now = jax.vmap(step, (0, 0, 0, None))(keys(env_key), state, action, task)
        seen = watch(obs, action, now.reward, alive)
        total, length = total + jnp.where(alive, now.reward, 0.0), length + alive
        return (state, now.obs, total, length, alive & ~(now.terminated | now.truncated)), seen

    start = (state, obs, jnp.zeros(num_episodes), jnp.zeros(num_episodes), jnp.ones(num_episodes, bool))
    (_, _, total, length, _), seen = jax.lax.scan(one, start, jax.random.split(run_key, horizon))
    return Episodes(total, length), seen


@functools.lru_cache(maxsize=64)
def _evaluation(actor, policy, reset, step, horizon, num_episodes, deterministic, axes, lanes, total=None):
    def one_lane(state, task, key, *start):
        fixed = (policy, reset, step, horizon, num_episodes, deterministic)
        part = (*start, total) if start else None
        return _episodes(*fixed, actor(state), task, key, lambda *seen: None, part)[0]

    if not lanes:
        return jax.jit(one_lane)

    return jax.jit(_over_lanes(one_lane, axes.tree, None, *[None] * (total is not None)))


@functools.lru_cache(maxsize=64)
def _robustness(actor, policy, reset, step, horizon, num_episodes, deterministic, axes, lanes):
    one_task = Axes(jax.tree.map(lambda axis: None, axes.tree, is_leaf=lambda x: x is None))
    run = _evaluation(actor, policy, reset, step, horizon, num_episodes, deterministic, one_task, lanes)
    return jax.jit(jax.vmap(run, (None, axes.tree, None)))


@functools.lru_cache(maxsize=64)
def _value_errors(
    actor, policy, value, reset, step, horizon, num_episodes, deterministic, axes, hyper_axes, lanes, total
):
    def one_lane(state, hyper, task, key, *start):
        def watch(obs, action, reward, alive):
            return *value(state, hyper, obs, action), reward, alive

        fixed = (policy, reset, step, horizon, num_episodes, deterministic)
        part = (*start, total) if start else None
        episodes, (q, bonus, reward, alive) = _episodes(*fixed, actor(state), task, key, watch, part)
        last = alive & ~jnp.concatenate([alive[1:], jnp.zeros_like(alive[:1])])

        def backwards(after, now):
            estimate, gain, last = now
            total = jnp.where(last, estimate, gain + hyper.gamma * after)
            return total, total

        estimate = q + bonus
        _, outcome = jax.lax.scan(backwards, jnp.zeros(num_episodes), (estimate, reward + bonus, last), reverse=True)
        return jnp.sum(jnp.where(alive, estimate - outcome, 0.0), axis=0) / episodes.lengths

    if not lanes:
        return jax.jit(one_lane)

    return jax.jit(_over_lanes(one_lane, hyper_axes.tree, axes.tree, None, *[None] * (total is not None)))


def _over_lanes(one_lane: Callable, *axes: Any) -> Callable:
    """``one_lane(state, ...)`` over a State's lanes [H, S]; ``axes`` are those of the other arguments along H."""

    def swept(state, *rest):
        mapped = lanes_of(state)
        over_seeds = jax.vmap(one_lane, (mapped, *[None] * len(axes)))
        return jax.vmap(over_seeds, (mapped, *axes))(state, *rest)

    return swept
