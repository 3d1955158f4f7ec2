"""Observations with a stock, what was earned so far: for returns of which not the mean counts (arXiv:2501.13028)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.blocks import stocks
from rlzoo.envs import recipes
from rlzoo.types import Box, Env, Observation, environment


class Params(NamedTuple):
    env: Any  # the inner environment's parameters
    low: jax.Array  # f32[], the initial stock is uniform between these two, reward units
    high: jax.Array


class State(NamedTuple):
    env: Any
    amount: jax.Array  # f32[], c_t
    start: jax.Array  # f32[], c_0 / gamma^t
    growth: jax.Array  # f32[], 1 / gamma^t


def stock(env: Env, gamma: float = 1.0, low: float = 0.0, high: float = 0.0, scale: float | None = None) -> Env:
    """``env`` with a stock beside its observations: c_{t+1} = (c_t + r_{t+1}) / gamma, c_0 uniform in [low, high].

    The ends are parameters, ``params.low`` and ``params.high``: they may be swept, one lane a target. Rewards and ends
    of episodes are those of ``env``; to put noise on rewards, wrap it in `stochastic` first. See `rlzoo.blocks.stocks`.

    Args:
        gamma: the discount of the algorithm that learns in it. Below 1 a stock grows as gamma^-t.
        scale: the unit in which networks see it, reward units; default: the larger end, 1 at the least.
    Raises:
        ValueError: the ends are the wrong way round, or a stock would grow beyond float32 within an episode.
    """
    environment(env, "stock")
    if env.stock is not None:
        raise ValueError(f"{env.name} has a stock already")
    if not (np.isfinite([low, high]).all() and low <= high):
        raise ValueError(f"low={low}, high={high}; the initial stock is uniform between two finite ends, low first")
    if not 0.0 < gamma <= 1.0 or -env.horizon * np.log10(gamma) > 30.0:
        raise ValueError(
            f"gamma={gamma}; it must be above 0, at most 1, and leave gamma^-{env.horizon}, by which the stock grows "
            "within an episode, below 1e30; prefer 1"
        )
    scale = float(max(abs(low), abs(high), 1.0) if scale is None else scale)
    if not 0.0 < scale < np.inf:
        raise ValueError(f"scale={scale}; it must be positive and finite")

    def begun(key: jax.Array, inner: Any, params: Params) -> State:
        start = jax.random.uniform(key, (), minval=params.low, maxval=params.high)
        return State(inner, start, start, jnp.float32(1.0))

    def seen(obs: Any, state: State) -> Observation:
        return stocks.beside(obs, state.amount, state.start, state.growth, scale)

    def reset(key: jax.Array, params: Params) -> tuple[Any, State]:
        reset_key, start_key = jax.random.split(key)
        obs, inner = env.reset(reset_key, params.env)
        state = begun(start_key, inner, params)
        return seen(obs, state), state

    def step(key: jax.Array, state: State, action: jax.Array, params: Params) -> tuple[State, Any]:
        step_key, start_key = jax.random.split(key)
        inner, now = env.step(step_key, state.env, action, params.env)
        after = State(inner, (state.amount + now.reward) / gamma, state.start / gamma, state.growth / gamma)
        next_obs, done = seen(now.next_obs, after), now.terminated | now.truncated
        after = jax.tree.map(lambda new, old: jnp.where(done, new, old), begun(start_key, inner, params), after)
        return after, now._replace(obs=seen(now.obs, after), next_obs=next_obs)

    wide = env._replace(
        name=f"{env.name} stock",
        reset=reset,
        step=step,
        params=Params(env.params, jnp.float32(low), jnp.float32(high)),
        obs_space=_space(env.obs_space),
        stock=float(gamma),
    )
    return recipes.wrapped(wide, env, "stock", gamma=gamma, low=low, high=high, scale=scale)


def _space(space: Box | Observation) -> Observation:
    """That of `stocks.beside`."""
    given = space if isinstance(space, Observation) else Observation(**{_part(space): space})
    vector = given.vector
    ends = [
        ([] if vector is None else list(np.ravel(x))) + [edge]
        for x, edge in zip((None, None) if vector is None else vector, (-np.inf, np.inf), strict=True)
    ]
    wide = Box(*(np.asarray(x, np.float32) for x in ends))
    return given._replace(vector=wide, stock=Box(np.full(4, -np.inf, np.float32), np.full(4, np.inf, np.float32)))


def _part(space: Box) -> str:
    return "image" if len(space.shape) == 3 else "vector"
