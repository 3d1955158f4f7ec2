"""Tiny environments with known answers: each isolates one thing that a learner must get right.

Every observation is f32[1]. With ``continuous=False`` there are two actions, 0 and 1; with ``continuous=True`` one
in [-1, 1], and "acting right" means close to the wanted end.

====================  ==========================================================  ===============================
``probe/…``           dynamics                                                    answer
====================  ==========================================================  ===============================
constant-reward       one step, reward 1                                          V = 1
reward-by-obs         one step, obs is -1 or +1, reward = obs                     V(obs) = obs
delayed-reward        two steps, reward 1 at the end, obs = time                  V(0) = gamma, V(1) = 1
reward-by-action      one step, +1 for the right action, -1 for the wrong one     always the right one
reward-by-both        as reward-by-action, but obs = +-1 says which one           the action that obs names
truncation-only       reward 1 for ever, cut every ``horizon`` steps              V = 1 / (1 - gamma)
both-flags            one step, reward 1, terminated *and* truncated at once      V = 1
====================  ==========================================================  ===============================
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.envs.episodes import with_episodes
from rlzoo.types import Box, Discrete, Env


def _blank(key, params):
    return jnp.zeros(1), jnp.zeros(1)


def _random_sign(key, params):
    obs = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)[None]
    return obs, obs


def _signed(action, continuous):
    """+1 for the right action, -1 for the wrong one, linear between."""
    return jnp.clip(action, -1.0, 1.0).reshape(()) if continuous else 2.0 * action - 1.0


def _one_step(reset, reward):
    """Dynamics that pay reward(obs, signed action) once and end."""

    def build(continuous):
        def step(key, obs, action, params):
            return obs, obs, params["scale"] * reward(obs[0], _signed(action, continuous)), jnp.array(True)

        return reset, step

    return build


def _delayed(continuous):
    def step(key, time, action, params):
        return time + 1.0, time + 1.0, params["scale"] * time[0], time[0] >= 1.0

    return _blank, step


def _endless(continuous):
    def step(key, obs, action, params):
        return obs, obs, params["scale"], jnp.array(False)

    return _blank, step


_LONG = 1_000  # a time limit that these episodes never reach

_PROBES: dict[str, tuple[Callable[[bool], Any], int]] = {  # name -> (builder of reset and step, horizon)
    "constant-reward": (_one_step(_blank, lambda obs, action: jnp.ones(())), _LONG),
    "reward-by-obs": (_one_step(_random_sign, lambda obs, action: obs), _LONG),
    "delayed-reward": (_delayed, _LONG),
    "reward-by-action": (_one_step(_blank, lambda obs, action: action), _LONG),
    "reward-by-both": (_one_step(_random_sign, lambda obs, action: obs * action), _LONG),
    "truncation-only": (_endless, 5),
    "both-flags": (_one_step(_blank, lambda obs, action: jnp.ones(())), 1),
}


def names() -> tuple[str, ...]:
    return tuple(_PROBES)


def make(name: str, continuous: bool = False) -> Env:
    """Build a probe; its one parameter, ``scale``, multiplies the rewards."""
    build, horizon = _PROBES[name]
    raw_reset, raw_step = build(continuous)
    reset, step = with_episodes(raw_reset, raw_step, horizon)
    unit = Box(-np.ones(1, np.float32), np.ones(1, np.float32))
    obs_space = Box(np.full(1, -np.inf, np.float32), np.full(1, np.inf, np.float32))
    params = {"scale": jnp.float32(1.0)}
    title = f"probe/{name}" + (" continuous" if continuous else "")
    return Env(title, reset, step, params, obs_space, unit if continuous else Discrete(2), horizon)
