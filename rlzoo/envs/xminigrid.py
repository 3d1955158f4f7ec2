"""XLand-MiniGrid (Nikulin et al. 2024, arXiv:2312.12044): grid worlds seen in part, each cell a tile and a colour.

Tiles and colours are kinds, not amounts: each is one-hot, as booleans [H, W, 13 + 12]. The limit, 3 H W steps if the
environment has no own, is part of the reward too. A task of XLand is its ``ruleset``, as of the package's benchmarks.
"""

from typing import Any

import jax
import jax.numpy as jnp

from rlzoo.envs.episodes import typed_as, with_episodes
from rlzoo.envs.observations import layout
from rlzoo.envs.suites import imported, known
from rlzoo.types import Discrete, Env


def names() -> tuple[str, ...]:
    return tuple(imported("xminigrid", "xminigrid").registered_environments())


def make(name: str, horizon: int | None = None, one_hot: bool = True, cached_reset: bool = False, **kwargs: Any) -> Env:
    """Build ``xminigrid/name``.

    Args:
        horizon: time limit in steps; default: the environment's own. cached_reset: replay each one's first state.
        one_hot: False observes tiles' and colours' numbers, [H, W, 2].
        kwargs: fields of the environment's ``EnvParams``, such as ``ruleset`` or ``view_size``.
    """
    package, constants = (imported("xminigrid", f"xminigrid{part}") for part in ("", ".core.constants"))
    raw, default = package.make(name)
    known(kwargs, default.__dataclass_fields__)
    settings = default.replace(**kwargs)
    settings = settings.replace(max_steps=horizon or settings.max_steps or 3 * settings.height * settings.width)
    numbers, structure = jax.tree.flatten(settings)  # of a ruleset; sizes are static

    def look(timestep: Any) -> Any:
        cells = timestep.observation
        if not one_hot:
            return cells
        kinds = constants.NUM_TILES, constants.NUM_COLORS
        hot = [jax.nn.one_hot(cells[..., i], n, dtype=bool) for i, n in enumerate(kinds)]
        return jnp.concatenate(hot, axis=-1)

    def reset(key: jax.Array, params: Any) -> tuple[Any, Any]:
        timestep = raw.reset(jax.tree.unflatten(structure, params), key)
        return observe(look(timestep)), jax.tree.map(jnp.asarray, timestep)

    def step(key: jax.Array, timestep: Any, action: jax.Array, params: Any) -> tuple[Any, ...]:
        new = raw.step(jax.tree.unflatten(structure, params), timestep, action)
        new = typed_as(timestep, new)
        return new, observe(look(new)), new.reward, new.discount == 0.0

    actions, key = Discrete(raw.num_actions(settings)), jax.random.key(0)
    example = jax.eval_shape(lambda key: look(raw.reset(settings, key)), key)
    observe, space = layout(f"xminigrid/{name}", example, actions)
    title = f"xminigrid/{name}" + (" cached_reset" if cached_reset else "")
    functions = with_episodes(reset, step, settings.max_steps, cached_reset)
    return Env(title, *functions, [jnp.asarray(x) for x in numbers], space, actions, settings.max_steps)
