"""MuJoCo Playground (Zakka et al. 2025, arXiv:2502.08844) on MJX: DeepMind's control suite, and robots.

Their raw environments, whose last observation is the true one, at the time limit too. ``params`` is MJX's model:
masses, friction, gains. Robots observe a state and, for critics, a privileged one; they fetch meshes on first use.
"""

import contextlib
import copy
import io
import subprocess
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.envs.episodes import typed_as, with_episodes
from rlzoo.envs.observations import layout
from rlzoo.envs.suites import imported, known
from rlzoo.types import Box, Env


def names() -> tuple[str, ...]:
    return tuple(_registry().ALL_ENVS)


def make(
    name: str, impl: str | None = None, horizon: int | None = None, cached_reset: bool = False, **kwargs: Any
) -> Env:
    """Build ``playground/name``.

    Args:
        impl: of MJX, "jax" or "warp", which is for NVIDIA's GPUs; default: jax.
        horizon: time limit in steps; default: the task's own. cached_reset: replay each environment's first state.
        kwargs: entries of the task's config, such as ``action_repeat``.
    """
    impl = impl or "jax"
    if impl not in ("jax", "warp"):
        raise ValueError(f"impl={impl!r}; allowed are jax, warp")
    known(kwargs, _registry().get_default_config(name).keys())
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            raw = _registry().load(name, config_overrides={"impl": impl} | kwargs)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # of git and of the network
        raise ValueError(f"playground/{name} fetches its robot on first use, and could not: {error}") from error
    horizon = horizon or int(raw._config.episode_length)

    def under(model: Any) -> Any:
        env = copy.copy(raw)  # which keeps its model in an attribute
        env._mjx_model = model
        return env

    def reset(key: jax.Array, params: Any) -> tuple[Any, Any]:
        state = jax.tree.map(jnp.asarray, under(params).reset(key))
        return observe(state.obs), state

    def step(key: jax.Array, state: Any, action: jax.Array, params: Any) -> tuple[Any, ...]:
        given = state.replace(info=dict(state.info), metrics=dict(state.metrics))
        new = under(params).step(given, action)
        new = typed_as(state, new)
        return new, observe(new.obs), new.reward, new.done > 0.5

    ones = np.ones(raw.action_size, np.float32)
    actions, model = Box(-ones, ones), jax.tree.map(jnp.asarray, raw.mjx_model)
    observe, space = layout(f"playground/{name}", jax.eval_shape(raw.reset, jax.random.key(0)).obs, actions)
    title = f"playground/{name}" + f" {impl}" * (impl != "jax") + (" cached_reset" if cached_reset else "")
    return Env(title, *with_episodes(reset, step, horizon, cached_reset), model, space, actions, horizon)


def _registry() -> Any:
    with contextlib.redirect_stdout(io.StringIO()):  # of warp, and of what it looks for
        return imported("playground", "mujoco_playground").registry
