"""Episodes on top of raw dynamics: a time limit, and a reset with a fresh key whenever an episode ends."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlzoo.envs.observations import kept
from rlzoo.types import TimeStep


class Episode(NamedTuple):
    inner: Any  # the raw environment's state
    time: jax.Array  # int32[], steps of this episode so far
    first: Any  # (obs, inner) of the first reset if it is replayed, else ()


def typed_as(state: Any, new: Any) -> Any:
    """A raw environment's next state with the types of the one before, of which some suites change one."""
    return jax.tree.map(lambda x, old: jnp.asarray(x, old.dtype), new, state)


def with_episodes(
    reset: Callable[..., tuple[Any, Any]],
    step: Callable[..., tuple[Any, Any, jax.Array, jax.Array]],
    horizon: int,
    cached_reset: bool = False,
) -> tuple[Callable[..., tuple[Any, Episode]], Callable[..., tuple[Episode, TimeStep]]]:
    """Turn raw dynamics into the `reset` and `step` of an `Env`.

    Args:
        reset: (key, params) -> obs, state.
        step: (key, state, action, params) -> state, obs, reward, terminated; no time limit, no reset.
            Rewards and real observations become float32; booleans and whole numbers stay what they are.
        horizon: the episode is truncated at this many steps.
        cached_reset: replay each environment's first state instead of drawing a new one. Cheaper (under vmap a
            fresh reset is computed at every step), but an environment then starts every episode alike.
    """

    def fresh(key, params):
        obs, inner = reset(key, params)
        return kept(obs), inner

    def reset_episode(key, params):
        obs, inner = fresh(key, params)
        return obs, Episode(inner, jnp.int32(0), (obs, inner) if cached_reset else ())

    def step_episode(key, state, action, params):
        step_key, reset_key = jax.random.split(key)
        given = jax.tree.map(lambda x: x, state.inner)  # a copy, as some write into the dicts that they are given
        inner, next_obs, reward, terminated = step(step_key, given, action, params)
        next_obs, reward = kept(next_obs), jnp.asarray(reward, jnp.float32)
        time = state.time + 1
        truncated = time >= horizon
        done = terminated | truncated

        first = state.first if cached_reset else fresh(reset_key, params)
        obs, inner = jax.tree.map(lambda new, old: jnp.where(done, new, old), first, (next_obs, inner))
        state = Episode(inner, jnp.where(done, jnp.int32(0), time), state.first)
        return state, TimeStep(obs, reward, terminated, truncated, next_obs)

    return reset_episode, step_episode
