"""Craftax and Craftax-Classic (Matthews et al. 2024, arXiv:2402.16801), symbolic or pixels.

Their objects have gymnax's interface of old, with one ``done`` for a death and for the limit ``max_timesteps``, which
is told from the clock here. A new world is made at every reset, and under vmap at every step, as any could be the last:
that is most of the time. ``cached_reset`` replays each environment's first world instead.
"""

from typing import Any

from rlzoo.envs.gymnax import adapt_old
from rlzoo.envs.suites import imported, known
from rlzoo.types import Env


def names() -> tuple[str, ...]:
    imported("craftax", "craftax")
    return tuple(f"Craftax-{kind}-v1" for kind in ("Symbolic", "Pixels", "Classic-Symbolic", "Classic-Pixels"))


def make(name: str, horizon: int = 10_000, cached_reset: bool = False, **kwargs: Any) -> Env:
    """Build ``craftax/name``.

    Args:
        horizon: time limit in steps; Craftax's own is 10,000. cached_reset: replay each environment's first world.
        kwargs: fields of the game's ``EnvParams``, such as ``god_mode``.
    """
    env = imported("craftax", "craftax.craftax_env").make_craftax_env_from_name(name, auto_reset=False)
    known(kwargs, env.default_params.__dataclass_fields__)
    params = env.default_params.replace(max_timesteps=horizon, **kwargs)
    title = f"craftax/{name}" + (" cached_reset" if cached_reset else "")
    return adapt_old(env, params, title, "max_timesteps", cached_reset)
