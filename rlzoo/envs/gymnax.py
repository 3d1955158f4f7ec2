"""Gymnax environments, and a user's own ones of the same interface.

gymnax >= 1.0 resets with a fresh key and returns six values, of which ``info["final_observation"]`` is the
successor before the reset. The adapter turns observations and rewards into float32, one-hot encodes discrete
observations, and reads spaces and horizon from the default parameters.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.envs import spaces
from rlzoo.types import Box, Discrete, Env, TimeStep

DRAWS = ("matplotlib.pyplot", "seaborn")  # of gymnax's own pictures
UNSUPPORTED = {"MNISTBandit-bsuite": "it downloads MNIST when constructed; gymnax ships no copy of the data"}


def names() -> tuple[str, ...]:
    with _drawing_later():
        from gymnax.registration import registered_envs

    return tuple(name for name in registered_envs if name not in UNSUPPORTED)


def make(name: str, **kwargs: Any) -> Env:
    with _drawing_later():
        import gymnax

    env, params = gymnax.make(name, **kwargs)
    return adapt(env, params, f"gymnax/{name}")


def adapt(env: Any, params: Any, name: str) -> Env:
    """Adapt an object with gymnax 1.0's `reset`, `step`, `observation_space` and `action_space`.

    Raises:
        ValueError: spaces that are no plain Box or Discrete; parameters without a time limit.
    """
    params = jax.tree.map(_strong, params)
    seen = spaces.read(env.observation_space(params), f"{name}: its observation space")
    action_space = spaces.read(env.action_space(params), f"{name}: its action space")
    if isinstance(action_space, Box) and not jnp.issubdtype(
        getattr(env.action_space(params), "dtype", float), jnp.floating
    ):
        raise ValueError(f"{name}: its action space is a Box of whole numbers; allowed are real ones, and Discrete")
    num_categories = seen.n if isinstance(seen, Discrete) else 0
    obs_space = seen if isinstance(seen, Box) else spaces.box(0.0, 1.0, (num_categories,))

    def observe(obs):
        if num_categories:
            return jax.nn.one_hot(obs, num_categories, dtype=jnp.float32)
        return jnp.asarray(obs, jnp.float32)

    def reset(key, params):
        obs, state = env.reset(key, params)
        return observe(obs), jax.tree.map(_strong, state)

    def step(key, state, action, params):
        values = env.step(key, jax.tree.map(lambda x: x, state), action, params)  # a copy: it may write into a dict
        if not isinstance(values, tuple) or len(values) != 6 or "final_observation" not in values[5]:
            raise ValueError(f"{name}: step returned {_returned(values)}")
        obs, state, reward, terminated, truncated, info = values
        flags = jnp.asarray(terminated, bool), jnp.asarray(truncated, bool)
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        state = jax.tree.map(_strong, state)
        return state, TimeStep(observe(obs), reward, *flags, observe(info["final_observation"]))

    return Env(name, reset, step, params, obs_space, action_space, _horizon(params, name))


class _Later(ModuleType):
    """In the place of a module, which is loaded when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for these
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def _drawing_later() -> Iterator[None]:
    """Import gymnax without what it draws with: with pandas and SciPy's statistics, 100 MiB and a second."""
    missing = () if "gymnax" in sys.modules else DRAWS  # once it is there nothing imports them any more
    later = {name: _Later(name) for name in missing if name not in sys.modules}
    sys.modules.update(later)
    try:
        yield
    finally:
        for name, module in later.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _strong(x: Any) -> jax.Array:
    """An array without weak type, so that the first step does not change it."""
    x = jnp.asarray(x)
    return jax.lax.convert_element_type(x, x.dtype)


def _returned(values: Any) -> str:
    """What a step gave instead of gymnax 1.0's six values, and what to do."""
    if not isinstance(values, tuple):
        given = f"a {type(values).__name__}"
    elif len(values) == 5:
        given = "5 values, as step_env does, and step did before gymnax 1.0"
    else:
        given = f"{len(values)} values" + (" without info['final_observation']" if len(values) == 6 else "")
    return (
        f"{given}; allowed are gymnax 1.0's six (obs, state, reward, terminated, truncated, info), where "
        "info['final_observation'] is the successor before any reset. Derive from gymnax's Environment and give it "
        "step_env and reset_env, around which its own step does this for you; or pass an rlzoo.types.Env."
    )


def _horizon(params: Any, name: str) -> int:
    limit = getattr(params, "max_steps_in_episode", None)
    if limit is None:
        raise ValueError(f"{name}: its parameters lack `max_steps_in_episode`; add it: evaluation runs that long")
    if np.ndim(limit) or not np.isfinite(limit) or int(limit) != limit:
        raise ValueError(f"{name}: max_steps_in_episode is {limit}; it must be a whole number of steps, 1 or more")
    return int(limit)
