"""Brax environments on the backends generalized, which is brax's own default, positional, spring and mjx.

The backends are other physics, and so other tasks under one name; an `Env`'s name says which.

The physical parameters, brax's ``System``, are the environment's `params`, passed at every call: masses, friction
or gravity may be swept like any number. Brax's own wrappers are not used: they replay each environment's first
state for ever and lose the successor at a reset.
"""

import contextlib
import copy
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.envs.episodes import typed_as, with_episodes
from rlzoo.types import Box, Env

BACKENDS = ("generalized", "positional", "spring", "mjx")
DEFAULT = "generalized"  # as of every environment in brax
UNSUPPORTED = {  # (name, backend) -> why
    ("swimmer", "generalized"): "brax 0.14.2 calls jnp.clip with a_min, which JAX has removed",
    ("swimmer", "positional"): "brax models its fluid on generalized alone",
    ("swimmer", "spring"): "brax models its fluid on generalized alone",
    ("swimmer", "mjx"): "brax models its fluid on generalized alone",
}


def names() -> tuple[str, ...]:
    with _quiet():
        from brax import envs
    return tuple(envs._envs)


def named(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """An id as an `Env`'s name has it, "hopper spring cached_reset", apart: the bare id, and all options."""
    name, *words = name.split(" ")
    behind: dict[str, Any] = {"backend": words[0]} if words else {}
    behind |= dict.fromkeys(words[1:], True)
    twice = [option for option in behind if option in options and options[option] != behind[option]]
    if twice:
        raise ValueError(f"brax/{name} {' '.join(words)} with {twice[0]}={options[twice[0]]!r}; give one of the two")
    return name, {"backend": DEFAULT} | behind | dict(options)


def make(name: str, backend: str = DEFAULT, horizon: int = 1_000, cached_reset: bool = False, **kwargs: Any) -> Env:
    """Build ``brax/name``.

    Args:
        backend: the physics: generalized, as brax itself takes, positional, spring or mjx.
        horizon: time limit in steps; brax's own is 1000 for every environment.
        cached_reset: replay each environment's first state at every reset: faster, but less varied.
        kwargs: for the environment's constructor.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r}; allowed are {', '.join(BACKENDS)}")
    if (name, backend) in UNSUPPORTED:
        good = [other for other in BACKENDS if (name, other) not in UNSUPPORTED]
        why = UNSUPPORTED[name, backend]
        raise ValueError(
            f"brax/{name} is not available on the backend {backend}: {why}; "
            + (f"use {', '.join(good)}" if good else "no other works either")
        )
    with _quiet():
        from brax import envs

        raw = envs.get_environment(name, backend=backend, **kwargs)
        params = jax.tree.map(jnp.asarray, getattr(raw, "sys", ()))
        action_size = raw.action_size

    def under(params):
        """The environment with other physics. A copy, because brax keeps them in an attribute."""
        env = copy.copy(raw)
        if params != ():
            env.sys = params
        return env

    def reset(key, params):
        with _quiet():
            state = under(params).reset(key)
        return state.obs, jax.tree.map(jnp.asarray, state)

    def step(key, state, action, params):
        with _quiet():
            # Copies: brax writes into the dicts that it is given.
            given = state.replace(info=dict(state.info), metrics=dict(state.metrics))
            new = under(params).step(given, action)
        return typed_as(state, new), new.obs, jnp.asarray(new.reward, jnp.float32), new.done > 0.5

    obs, _ = jax.eval_shape(reset, jax.random.key(0), params)
    if isinstance(obs, dict):
        raise ValueError(f"brax/{name}: observes a dict of arrays, {sorted(obs)}; allowed is one array")
    infinite = np.full(obs.shape, np.inf, np.float32)
    ones = np.ones(action_size, np.float32)
    title = f"brax/{name} {backend}" + (" cached_reset" if cached_reset else "")
    reset, step = with_episodes(reset, step, horizon, cached_reset)
    return Env(title, reset, step, params, Box(-infinite, infinite), Box(-ones, ones), horizon)


def html(params: Any, states: Any) -> str:
    """Brax's page of an episode, which a browser shows with brax's viewer from the network.

    Args:
        params: with the `System` in it, as of `Env.params` or of an environment around a brax one.
        states: [L, ...] of an episode, brax's own or of an environment around them.
    """
    with _quiet():
        from brax.base import System
        from brax.envs.base import State
        from brax.io import html

        def inside(tree, kind):
            found = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, kind))
            return next(x for x in found if isinstance(x, kind))

        system, physics = inside(params, System), jax.device_get(inside(states, State).pipeline_state)
        leaves, structure = jax.tree.flatten(physics)
        return html.render(system, [jax.tree.unflatten(structure, at) for at in zip(*leaves, strict=True)])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what brax and mujoco print at import and while tracing: deprecations, theirs to mend, not the user's."""
    with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
        yield
