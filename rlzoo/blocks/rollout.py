"""Collect experience: T steps in each of N environments, which reset themselves."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlzoo.blocks.distributions import Categorical, among_legal
from rlzoo.types import Discrete, Env, TimeStep, Transition, mask_of


class Envs(NamedTuple):
    """N environments in the middle of their episodes."""

    state: Any  # the environments' own states, leaves [N, ...]
    obs: Any  # [N, ...] what the agent sees now, an array or an `Observation`
    episode_return: jax.Array  # f32[N], undiscounted, of the episode so far
    episode_length: jax.Array  # f32[N], steps of the episode so far


def init(env: Env, key: jax.Array, task: Any, num_envs: int) -> Envs:
    """Reset N environments with keys of their own."""
    obs, state = jax.vmap(env.reset, (0, None))(jax.random.split(key, num_envs), task)
    return Envs(state, obs, jnp.zeros(num_envs), jnp.zeros(num_envs))


Ended = tuple[jax.Array, jax.Array, jax.Array]  # return, length and number of the episodes that ended, else 0


def advance(envs: Envs, state: Any, now: TimeStep) -> tuple[Envs, Ended]:
    """The environments after a step, whether N or one, and the episodes that ended with it."""
    done = now.terminated | now.truncated
    total, length = envs.episode_return + now.reward, envs.episode_length + 1.0
    ended = jnp.where(done, total, 0.0), jnp.where(done, length, 0.0), done.astype(jnp.float32)
    return Envs(state, now.obs, jnp.where(done, 0.0, total), jnp.where(done, 0.0, length)), ended


def episode_metrics(ended: Ended, obs: Any = None) -> dict[str, jax.Array]:
    """Sums over all that ended; the host divides. Where ``obs`` say what is legal, in how many nothing was."""
    names = ("episode/return_sum", "episode/length_sum", "episode/count")
    found = {name: x.sum() for name, x in zip(names, ended, strict=True)}
    if (mask := mask_of(obs)) is not None:
        found["episode/nothing_legal"] = jnp.sum(~mask.any(axis=-1), dtype=jnp.float32)
    return found


def collect(
    env: Env,
    act: Callable[[jax.Array, jax.Array], tuple[jax.Array, Any]],
    envs: Envs,
    key: jax.Array,
    task: Any,
    num_steps: int,
) -> tuple[Envs, Transition, Any, dict[str, jax.Array]]:
    """Step N environments T times.

    Args:
        act: (obs, leaves [N, ...], key) -> (action [N, ...] for the environment, whatever else to remember of it).
        key: consumed. task: the environments' parameters, shared by all N.
    Returns:
        the environments, the transitions [T, N, ...], what ``act`` remembered [T, ...], and the episodes that
        ended as sums (``episode/return_sum``, ``episode/length_sum``, ``episode/count``): the host divides.
    """
    num_envs = envs.episode_return.shape[0]

    def one(envs, key):
        act_key, env_key = jax.random.split(key)
        action, memory = act(envs.obs, act_key)
        env_keys = jax.random.split(env_key, num_envs)
        state, now = jax.vmap(env.step, (0, 0, 0, None))(env_keys, envs.state, action, task)
        envs_after, ended = advance(envs, state, now)
        transition = Transition(envs.obs, action, now.reward, now.terminated, now.truncated, now.next_obs)
        return envs_after, (transition, memory, jax.tree.map(jnp.sum, ended))

    envs, (transitions, memory, ended) = jax.lax.scan(one, envs, jax.random.split(key, num_steps))
    return envs, transitions, memory, episode_metrics(ended, transitions.obs)


def at_random(
    env: Env,
    envs: Envs,
    key: jax.Array,
    task: Any,
    num_steps: int,
    hold: int = 1,
    masked: Callable[[Any], Any] | None = None,
) -> tuple[Envs, Transition]:
    """Uniform actions, each held for ``hold`` of ``num_steps`` steps, as rows of [num_steps N].

    Args:
        masked: obs -> a `Categorical` of which nothing that is masked is tried; by default what observations allow.
    Returns:
        the environments, and rows whose actions are as policies have them: in [-1, 1], or integers.
    """
    space, num_envs = env.action_space, envs.episode_return.shape[0]

    def one(envs, key):
        action_key, hold_key = jax.random.split(key)
        if isinstance(space, Discrete):
            action = jax.random.randint(action_key, (num_envs,), 0, space.n)
        else:
            action = jax.random.uniform(action_key, (num_envs, math.prod(space.shape)), minval=-1.0)

        def act(obs, key):
            held = action
            if isinstance(space, Discrete) and (masked is not None or mask_of(obs) is not None):
                pi = masked(obs) if masked else among_legal(Categorical(jnp.zeros((num_envs, space.n))), obs)
                held = jnp.where(jnp.exp(pi.log_prob(action)) > 0.0, action, pi.sample(key))
            return space.from_policy(held), held

        envs, batch, held, _ = collect(env, act, envs, hold_key, task, hold)
        return envs, flatten(batch._replace(action=held))

    envs, rows = jax.lax.scan(one, envs, jax.random.split(key, num_steps // hold))
    return envs, flatten(rows)


def flatten(batch: Any) -> Any:
    """Every leaf [T, N, ...] as [T N, ...]: rows for a replay buffer, or for a loss."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
