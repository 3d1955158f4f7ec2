"""Evaluate a State: whole episodes, apart from training."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.drivers.sweep import Axes, swept_axes
from rlzoo.types import Algorithm, Box, Env, Space


class Episodes(NamedTuple):
    """Whole episodes; a sweep adds [H, S] in front."""

    returns: jax.Array  # f32[num_episodes], undiscounted
    lengths: jax.Array  # f32[num_episodes], steps


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

    Training is untouched: the keys come from ``key``, never from the State. All lanes see the same episodes (the
    same resets and noise), which makes the differences between them sharper. An episode is counted from a reset to
    its end; observation statistics are frozen.

    Args:
        env: may differ from the training environment; its spaces must not.
        task: environment parameters; a leaf with one more axis than ``env.params`` goes along the settings [H].
            Default: those trained on if ``env`` is the algorithm's own, otherwise ``env.params``.
        deterministic: act by the mode of the policy; False samples.
    Returns:
        returns and lengths, f32[num_episodes], for a sweep f32[H, S, num_episodes].
    """
    if num_episodes < 1:
        raise ValueError(f"num_episodes={num_episodes}; it must be 1 or more")
    if env.obs_space.shape != algo.env.obs_space.shape or not _same_actions(env.action_space, algo.env.action_space):
        spaces = [f"{e.name} (obs {list(e.obs_space.shape)}, actions {e.action_space})" for e in (env, algo.env)]
        raise ValueError(f"{spaces[0]} does not fit; the policy was made for {spaces[1]}")
    if task is None:
        task = algo.task if env is algo.env and not algo.offline else env.params
    axes = Axes(swept_axes(env.params, task, "task"))
    lanes = state.key.ndim
    if not lanes and any(axis is not None for axis in axes.leaves):
        raise ValueError("task has a swept leaf, but the state is of one agent; sweep the algorithm, or give one task")
    run = _compiled(algo.actor, algo.policy, env.reset, env.step, env.horizon, num_episodes, deterministic, axes, lanes)
    return run(state, task, key)


def _same_actions(first: Space, second: Space) -> bool:
    if isinstance(first, Box) and isinstance(second, Box):
        return np.array_equal(first.low, second.low) and np.array_equal(first.high, second.high)
    return first == second


@functools.lru_cache(maxsize=64)
def _compiled(actor, policy, reset, step, horizon, num_episodes, deterministic, axes, lanes):
    def one_lane(actor, task, key):
        reset_key, run_key = jax.random.split(key)
        obs, state = jax.vmap(reset, (0, None))(jax.random.split(reset_key, num_episodes), task)

        # A loop of fixed length with a mask: under vmap, a while loop would run to the slowest lane anyway.
        def one(carry, key):
            state, obs, total, length, alive = carry
            act_key, env_key = jax.random.split(key)
            action = policy(actor, obs, act_key, deterministic)
            env_keys = jax.random.split(env_key, num_episodes)
            state, now = jax.vmap(step, (0, 0, 0, None))(env_keys, state, action, task)
            total, length = total + jnp.where(alive, now.reward, 0.0), length + alive
            return (state, now.obs, total, length, alive & ~(now.terminated | now.truncated)), None

        start = (state, obs, jnp.zeros(num_episodes), jnp.zeros(num_episodes), jnp.ones(num_episodes, bool))
        (_, _, total, length, _), _ = jax.lax.scan(one, start, jax.random.split(run_key, horizon))
        return Episodes(total, length)

    run = one_lane
    if lanes:
        over_seeds = jax.vmap(one_lane, (0, None, None))
        run = jax.vmap(over_seeds, (0, axes.tree, None))
    return jax.jit(lambda state, task, key: run(actor(state), task, key))
