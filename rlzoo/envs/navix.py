"""Navix (Pignatelli et al. 2024, arXiv:2407.19396): MiniGrid in JAX.

At run time it needs what it is developed with, wandb and linters among them; without one of these its import fails, and
`make` says which.
"""

from typing import Any

import jax
import jax.numpy as jnp

from rlzoo.envs.episodes import typed_as, with_episodes
from rlzoo.envs.observations import layout
from rlzoo.envs.suites import imported
from rlzoo.types import Discrete, Env


def names() -> tuple[str, ...]:
    return tuple(imported("navix", "navix").registry())


def make(name: str, horizon: int | None = None, cached_reset: bool = False, **kwargs: Any) -> Env:
    """Build ``navix/name``.

    Args:
        horizon: time limit in steps; default: the environment's own. cached_reset: replay each one's first state.
        kwargs: for the environment's constructor.
    """
    raw = imported("navix", "navix").make(name, **kwargs | ({"max_steps": horizon} if horizon else {}))
    horizon = int(raw.max_steps)  # of which the reward of some tasks depends

    def reset(key: jax.Array, params: Any) -> tuple[Any, Any]:
        timestep = jax.tree.map(jnp.asarray, raw.reset(key))
        return observe(timestep.observation), timestep

    def step(key: jax.Array, timestep: Any, action: jax.Array, params: Any) -> tuple[Any, ...]:
        new = raw._step(timestep, action)  # `step` resets by itself
        new = typed_as(timestep, new)
        died = raw.termination_fn(timestep.state, action, new.state)  # `step_type` says one of both ends
        return new, observe(new.observation), new.reward, jnp.asarray(died, bool)

    example = jax.eval_shape(raw.reset, jax.random.key(0)).observation
    actions = Discrete(len(raw.action_set))
    observe, space = layout(f"navix/{name}", example, actions)
    title = f"navix/{name}" + (" cached_reset" if cached_reset else "")
    return Env(title, *with_episodes(reset, step, horizon, cached_reset), (), space, actions, horizon)
