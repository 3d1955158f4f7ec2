"""Gymnax environments, and a user's own ones of the same interface.

gymnax >= 1.0 resets with a fresh key and returns six values, of which ``info["final_observation"]`` is the
successor before the reset. The adapter turns observations and rewards into float32, one-hot encodes discrete
observations, and reads spaces and horizon from the default parameters.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.types import Box, Discrete, Env, Space, TimeStep

UNSUPPORTED = {"MNISTBandit-bsuite": "it downloads MNIST when constructed; gymnax ships no copy of the data"}


def names() -> tuple[str, ...]:
    from gymnax.registration import registered_envs

    return tuple(name for name in registered_envs if name not in UNSUPPORTED)


def make(name: str, **kwargs: Any) -> Env:
    import gymnax

    env, params = gymnax.make(name, **kwargs)
    return adapt(env, params, f"gymnax/{name}")


def adapt(env: Any, params: Any, name: str) -> Env:
    """Adapt an object with gymnax 1.0's `reset`, `step`, `observation_space` and `action_space`."""
    params = jax.tree.map(_strong, params)
    observation_space = env.observation_space(params)
    num_categories = getattr(observation_space, "n", None)

    def observe(obs):
        if num_categories is not None:
            return jax.nn.one_hot(obs, num_categories)
        return jnp.asarray(obs, jnp.float32)

    def reset(key, params):
        obs, state = env.reset(key, params)
        return observe(obs), jax.tree.map(_strong, state)

    def step(key, state, action, params):
        values = env.step(key, state, action, params)
        if len(values) != 6 or "final_observation" not in values[5]:
            raise ValueError(
                f"{name}: step returned {len(values)} values"
                + (" without info['final_observation']" if len(values) == 6 else "")
                + "; allowed are gymnax 1.0's six (obs, state, reward, terminated, truncated, info), where "
                "info['final_observation'] is the successor before any reset. Derive from gymnax's Environment, "
                "which does this for you, or pass an rlzoo.types.Env."
            )
        obs, new_state, reward, terminated, truncated, info = values
        # The state keeps the dtypes of the reset: integer counters must not turn into floats in a scan.
        new_state = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), new_state, state)
        flags = jnp.asarray(terminated, bool), jnp.asarray(truncated, bool)
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        return new_state, TimeStep(observe(obs), reward, *flags, observe(info["final_observation"]))

    obs, _ = jax.eval_shape(reset, jax.random.key(0), params)
    low, high = (0.0, 1.0) if num_categories is not None else (observation_space.low, observation_space.high)
    obs_space = _box(low, high, obs.shape)
    return Env(name, reset, step, params, obs_space, _space(env.action_space(params), name), _horizon(params))


def _strong(x: Any) -> jax.Array:
    """An array without weak type, so that the first step does not change it."""
    x = jnp.asarray(x)
    return jax.lax.convert_element_type(x, x.dtype)


def _box(low: Any, high: Any, shape: tuple[int, ...]) -> Box:
    return Box(*(np.broadcast_to(np.asarray(x, np.float32), shape).copy() for x in (low, high)))


def _space(space: Any, name: str) -> Space:
    if hasattr(space, "n"):
        return Discrete(int(space.n))
    if hasattr(space, "low"):
        return _box(space.low, space.high, tuple(space.shape))
    raise ValueError(f"{name}: action space {space!r}; allowed are spaces with `n` (Discrete) or `low`, `high` (Box)")


def _horizon(params: Any) -> int:
    limit = getattr(params, "max_steps_in_episode", None)
    if limit is None:
        raise ValueError("the environment's parameters lack `max_steps_in_episode`; add it: evaluation runs that long")
    return int(limit)
