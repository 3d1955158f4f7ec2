"""Jumanji (Bonnet et al. 2024, arXiv:2306.09884): games, routing, packing and logic, most with a mask of legal actions.

Where the mask is of several numbers at once, a cell of a board, a piece and its place, an action is one number that
counts them all; where each number has a mask of its own, they stay several. Rewards of several agents, which act as one
here, are summed. The environments' own time limits, which they end with a death, are lifted, and told from the clock.
"""

import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.envs import spaces
from rlzoo.envs.episodes import typed_as, with_episodes
from rlzoo.envs.observations import layout
from rlzoo.envs.suites import imported
from rlzoo.types import Box, Discrete, Env, MultiDiscrete, Space

UNSUPPORTED = {"MultiCVRP-v0": "its actions go to 21 and its mask to 20"}
# Without a limit of their own, but with an end: items to place, cities to visit, cells to fill.
LENGTHS = {
    "BinPack-v2": 20,
    "CVRP-v1": 40,
    "FlatPack-v0": 25,
    "GraphColoring-v1": 20,
    "Knapsack-v1": 50,
    "Minesweeper-v0": 100,
    "Sudoku-v0": 81,
    "Sudoku-very-easy-v0": 81,
    "TSP-v1": 20,
}


def names() -> tuple[str, ...]:
    found = imported("jumanji", "jumanji").registered_environments()
    return tuple(name for name in sorted(found) if name not in UNSUPPORTED)


def make(name: str, horizon: int | None = None, cached_reset: bool = False, **kwargs: Any) -> Env:
    """Build ``jumanji/name``.

    Args:
        horizon: time limit in steps; default: the environment's own, or 1,000 if it has none.
        cached_reset: replay each environment's first state at every reset. kwargs: for the environment's constructor.
    """
    package = imported("jumanji", "jumanji")
    try:
        raw = package.make(name, **kwargs)
    except OSError as error:  # of what it fetches from the network
        raise ValueError(f"jumanji/{name} fetches levels on first use, and could not: {error}") from error
    own_limit = getattr(raw, "time_limit", None)
    if own_limit is not None and "time_limit" in inspect.signature(type(raw)).parameters:
        raw = package.make(name, **kwargs | {"time_limit": spaces.LONGEST})
    horizon = horizon or own_limit or LENGTHS.get(name, 1_000)
    _, first = jax.eval_shape(raw.reset, jax.random.key(0))
    mask = getattr(first.observation, "action_mask", None)
    actions, act = _actions(f"jumanji/{name}", raw.action_spec, None if mask is None else mask.shape)

    def look(timestep: Any) -> Any:
        seen = timestep.observation
        return seen if mask is None else seen._replace(action_mask=seen.action_mask.ravel())

    def reset(key: jax.Array, params: Any) -> tuple[Any, Any]:
        state, timestep = raw.reset(key)
        return observe(look(timestep)), jax.tree.map(jnp.asarray, state)

    def step(key: jax.Array, state: Any, action: jax.Array, params: Any) -> tuple[Any, ...]:
        new, timestep = raw.step(state, act(action))
        new = typed_as(state, new)
        died = (timestep.step_type == 2) & jnp.all(timestep.discount == 0.0)
        return new, observe(look(timestep)), jnp.sum(timestep.reward), died

    observe, space = layout(f"jumanji/{name}", jax.eval_shape(look, first), actions)
    title = f"jumanji/{name}" + (" cached_reset" if cached_reset else "")
    return Env(title, *with_episodes(reset, step, horizon, cached_reset), (), space, actions, horizon)


def _actions(name: str, spec: Any, mask: tuple[int, ...] | None) -> tuple[Space, Any]:
    """The space of actions, and what of it the environment takes; ``mask``: the shape of what says which are legal."""
    if np.ndim(getattr(spec, "num_values", 0)) == 1:
        sizes = tuple(int(n) for n in spec.num_values)
        if mask is None or mask == (len(sizes), sizes[0]):  # of each number apart
            return MultiDiscrete(sizes), lambda action: action
        if mask == sizes:
            whole = lambda action: jnp.stack(jnp.unravel_index(action, sizes)).astype(spec.dtype)  # noqa: E731
            return Discrete(math.prod(sizes)), whole
        raise ValueError(f"{name}: its mask has the shape {list(mask)}, and its actions {list(sizes)}; they must agree")
    if hasattr(spec, "num_values"):
        return Discrete(int(spec.num_values)), lambda action: action
    low, high = (np.broadcast_to(np.asarray(x, np.float32), spec.shape).copy() for x in (spec.minimum, spec.maximum))
    return Box(low, high), lambda action: action
