"""Gymnax environments, and a user's own ones of the same interface.

gymnax >= 1.0 resets with a fresh key and returns six values, of which ``info["final_observation"]`` is the
successor before the reset. The adapter turns real observations and rewards into float32, keeps booleans and whole
numbers, one-hot encodes discrete observations, and reads spaces and horizon from the default parameters.
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
from rlzoo.envs.episodes import with_episodes
from rlzoo.envs.observations import kept, layout
from rlzoo.types import Box, Discrete, Env, MultiDiscrete, Space, TimeStep

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
    return adapt(env, params, f"gymnax/{name}", binary=name.endswith("-MinAtar"))


def adapt(env: Any, params: Any, name: str, binary: bool = False) -> Env:
    """Adapt an object with gymnax 1.0's `reset`, `step`, `observation_space` and `action_space`.

    Args:
        binary: observations are zeros and ones, which are kept as booleans, in a quarter of the memory.
    Raises:
        ValueError: spaces that cannot be read; parameters without a time limit.
    """
    params = jax.tree.map(_strong, params)
    action_space = _action_space(env, params, name)
    observe, obs_space = _seen(env, params, name, _example(env.reset, params), action_space)
    if binary:
        observe = lambda obs: obs > 0.5  # noqa: E731
        obs_space = Box(*(np.full(obs_space.shape, end) for end in (False, True)))

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


def is_old(env: Any, params: Any) -> bool:
    """Whether an object's `step` gives five values, as before gymnax 1.0, with `reset_env` and `step_env` beside it."""
    if not (hasattr(env, "step_env") and hasattr(env, "reset_env")):
        return False
    try:
        key, params = jax.random.key(0), jax.tree.map(_strong, params)
        action = jax.eval_shape(_action_space(env, params, "").sample, key)
        values = jax.eval_shape(lambda key, a: env.step(key, env.reset(key, params)[1], a, params), key, action)
    except Exception:  # of a user's own code, which `make` says when it looks
        return False
    return isinstance(values, tuple) and len(values) == 5


def adapt_old(env: Any, params: Any, name: str, limit: str = "max_steps_in_episode", cached_reset: bool = False) -> Env:
    """Adapt an object of before gymnax 1.0, whose `step_env` gives five values, with one ``done`` for both ends.

    The time limit is taken out of the parameters that it sees, so that ``done`` is a death, and told by our own clock.

    Args:
        limit: the name of the limit among the parameters. cached_reset: as of `with_episodes`.
    """
    params = jax.tree.map(_strong, params)
    action_space, horizon = _action_space(env, params, name), _horizon(params, name, limit)

    def without_limit(params):
        change = params.replace if hasattr(params, "replace") else params._replace
        kept = getattr(params, limit)
        return change(**{limit: jnp.full_like(kept, spaces.LONGEST)})

    def reset_once(key, params):
        obs, state = env.reset_env(key, without_limit(params))
        return obs, jax.tree.map(_strong, state)

    example, _ = jax.eval_shape(reset_once, jax.random.key(0), params)
    observe, obs_space = _seen(env, params, name, example, action_space)

    def step_once(key, state, action, params):
        obs, state, reward, done, _ = env.step_env(key, state, action, without_limit(params))
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        return jax.tree.map(_strong, state), observe(obs), reward, jnp.asarray(done, bool)

    def seen_at_reset(key, params):
        obs, state = reset_once(key, params)
        return observe(obs), state

    reset, step = with_episodes(seen_at_reset, step_once, horizon, cached_reset)
    return Env(name, reset, step, params, obs_space, action_space, horizon)


def _action_space(env: Any, params: Any, name: str) -> Space:
    given = env.action_space(params)
    space = spaces.read(given, f"{name}: its action space")
    if isinstance(space, Box) and not jnp.issubdtype(getattr(given, "dtype", float), jnp.floating):
        raise ValueError(f"{name}: its action space is a Box of whole numbers; allowed are real ones, and Discrete")
    return space


def _example(reset: Any, params: Any) -> Any:
    """The shapes of an observation; () if a reset fails, which `make` says when it looks."""
    try:
        return jax.eval_shape(reset, jax.random.key(0), params)[0]
    except Exception:
        return ()


def _seen(env: Any, params: Any, name: str, example: Any, action_space: Space) -> tuple[Any, Any]:
    """What becomes of observations, and their space, with the bounds that the environment gives."""
    given = env.observation_space(params)
    if hasattr(given, "spaces"):  # a dict or a tuple of several
        return layout(name, example, action_space)
    space = spaces.read(given, f"{name}: its observation space")
    if isinstance(space, Discrete):
        one_hot = lambda obs: jax.nn.one_hot(obs, space.n, dtype=jnp.float32)  # noqa: E731
        return one_hot, spaces.box(0.0, 1.0, (space.n,))
    if isinstance(space, MultiDiscrete):
        space = spaces.box(0.0, np.subtract(space.n, 1.0), space.shape)
    dtype = getattr(example, "dtype", np.dtype(np.float32))
    if jnp.issubdtype(dtype, jnp.integer):
        ends = np.iinfo(dtype)
        space = Box(*(np.clip(x.astype(float), ends.min, ends.max).astype(dtype) for x in space))
    elif jnp.issubdtype(dtype, jnp.bool_):
        space = Box(*(np.full(space.shape, end) for end in (False, True)))
    return kept, space


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
        given = "5 values, as step did before gymnax 1.0, without reset_env and step_env beside it"
    else:
        given = f"{len(values)} values" + (" without info['final_observation']" if len(values) == 6 else "")
    return (
        f"{given}; allowed are gymnax 1.0's six (obs, state, reward, terminated, truncated, info), where "
        "info['final_observation'] is the successor before any reset. Derive from gymnax's Environment and give it "
        "step_env and reset_env, around which its own step does this for you; or pass an rlzoo.types.Env."
    )


def _horizon(params: Any, name: str, field: str = "max_steps_in_episode") -> int:
    limit = getattr(params, field, None)
    if limit is None:
        raise ValueError(f"{name}: its parameters lack `{field}`; add it: evaluation runs that long")
    if np.ndim(limit) or not np.isfinite(limit) or int(limit) != limit:
        raise ValueError(f"{name}: {field} is {limit}; it must be a whole number of steps, 1 or more")
    return int(limit)
