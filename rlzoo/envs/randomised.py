"""Domain randomisation (Tobin et al. 2017, arXiv:1703.06907): physics drawn anew for every episode, or environment."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo import names
from rlzoo.envs import recipes
from rlzoo.envs.vary import put, with_columns
from rlzoo.types import Env, environment

PER = ("episode", "environment")
Sampler = Callable[[jax.Array, Any], Any]  # (key, params) -> params of one episode


class Params(NamedTuple):
    env: Any  # the inner environment's parameters, of which some are drawn
    ranges: dict[str, jax.Array]  # name -> [low, high], between which it is uniform; {} of a sampler of one's own


class State(NamedTuple):
    env: Any
    drawn: Any  # parameters of this episode


def randomised(env: Env, ranges: Mapping[str, tuple[float, float]] | Sampler, per: str = "episode") -> Env:
    """``env`` with parameters of which some are drawn at every reset, uniform between two ends.

        env = rlzoo.envs.randomised(rlzoo.envs.make("gymnax/Pendulum-v1"), {"m": (0.5, 1.5), "l": (0.5, 1.5)})

    The ends are parameters, ``params.ranges``: they may be swept, and changed without compiling anew.

    Args:
        ranges: by the names of `vary`, "mass torso" and "friction" of brax among them; or a function (key, params) ->
            params of one episode, of the same shapes.
        per: "episode", or "environment": each of those side by side keeps what is drawn at its first reset. An episode
            of its own costs one more reset at every step.
    Raises:
        ValueError: an unknown name, or ends that `vary` would not take.
    """
    environment(env, "randomised")
    names.check("per", [per], PER)
    own = ranges if callable(ranges) else None
    ends = {} if callable(ranges) else {name: _ends(name, x) for name, x in ranges.items()}
    with_columns(env, ends)  # refuses what it would not take
    if not ends and own is None:
        raise ValueError(
            "nothing to draw; give ranges, such as {'m': (0.5, 1.5)}, or a function (key, params) -> params"
        )

    def draw(key: jax.Array, params: Params) -> Any:
        if own is not None:
            return own(key, params.env)
        drawn, keys = params.env, jax.random.split(key, len(ends))
        for key, name in zip(keys, ends, strict=True):
            low, high = params.ranges[name]
            drawn = put(env, drawn, name, jax.random.uniform(key, (), minval=low, maxval=high))
        return drawn

    def reset(key: jax.Array, params: Params) -> tuple[Any, State]:
        draw_key, reset_key = jax.random.split(key)
        drawn = draw(draw_key, params)
        obs, inner = env.reset(reset_key, drawn)
        return obs, State(inner, drawn)

    def step(key: jax.Array, state: State, action: jax.Array, params: Params) -> tuple[State, Any]:
        step_key, reset_key = jax.random.split(key)
        inner, now = env.step(step_key, state.env, action, state.drawn)
        after = State(inner, state.drawn)
        if per == "episode":
            fresh = reset(reset_key, params)
            done = now.terminated | now.truncated
            obs, after = jax.tree.map(lambda new, old: jnp.where(done, new, old), fresh, (now.obs, after))
            now = now._replace(obs=obs)
        return after, now

    params = Params(env.params, {name: jnp.asarray(x) for name, x in ends.items()})
    title = f"{env.name} randomised" + " per environment" * (per == "environment")
    wide = env._replace(name=title, reset=reset, step=step, params=params)
    if own is not None:
        return wide
    plain = {name: [float(end) for end in x] for name, x in ends.items()}
    return recipes.wrapped(wide, env, "randomised", ranges=plain, per=per)


def _ends(name: str, given: Any) -> np.ndarray:
    ends = np.asarray(given, np.float32)
    if ends.shape != (2,) or not ends[0] <= ends[1]:
        raise ValueError(f"{name}: {given!r} is no range; give its two ends, the lower one first")
    return ends
