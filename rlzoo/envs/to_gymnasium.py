"""Our environments as gymnasium's, for its tools, and for libraries that train in Python such as Stable-Baselines3."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.envs.suites import imported
from rlzoo.types import Box, Discrete, Env, MultiDiscrete, Observation, environment


def to_gymnasium(env: Env) -> Any:
    """A `gymnasium.Env` of ours: one environment, without resets of its own, `reset` and `step` compiled.

    Observations of several arrays are a dict, with the mask of legal actions under ``action_mask`` too. ``params`` of
    the object are the environment's parameters, and may be replaced.
    """
    gymnasium: Any = imported("gymnasium", "gymnasium")
    environment(env, "to_gymnasium")

    class Adapted(gymnasium.Env):
        metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - as gymnasium has it

        def __init__(self) -> None:
            self.params = env.params
            self.observation_space = _space(gymnasium, env.obs_space)
            self.action_space = _space(gymnasium, env.action_space)
            self._reset, self._step = jax.jit(env.reset), jax.jit(env.step)
            self._key: Any = None
            self._state: Any = None

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[Any, dict[str, Any]]:
            super().reset(seed=seed)
            self._key = jax.random.key(int(self.np_random.integers(2**31)))
            obs, self._state = self._reset(self._next(), self.params)
            return _shown(obs), {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            if self._state is None:
                raise gymnasium.error.ResetNeeded("call reset() before step()")
            given = jnp.asarray(action, jnp.float32 if isinstance(env.action_space, Box) else jnp.int32)
            self._state, now = self._step(self._next(), self._state, given, self.params)
            terminated, truncated = bool(now.terminated), bool(now.truncated)
            return _shown(now.next_obs), float(now.reward), terminated, truncated, {}

        def _next(self) -> jax.Array:
            self._key, key = jax.random.split(self._key)
            return key

    made = Adapted()
    name = f"rlzoo-{env.name.replace('/', '-').replace(' ', '-')}-v0"
    made.spec = gymnasium.envs.registration.EnvSpec(name, entry_point=lambda: to_gymnasium(env))
    return made


def to_gymnasium_vector(env: Env, num_envs: int) -> Any:
    """A `gymnasium.vector.VectorEnv` of ours, compiled as one program, reset in the step that ends an episode.

    As gymnasium has it in the mode SAME_STEP, the true last observations are in ``info["final_obs"]``.
    """
    gymnasium: Any = imported("gymnasium", "gymnasium")
    environment(env, "to_gymnasium_vector")
    if num_envs < 1:
        raise ValueError(f"num_envs={num_envs}; it must be 1 or more")
    batch = gymnasium.vector.utils.batch_space

    class Adapted(gymnasium.vector.VectorEnv):
        metadata = {"render_modes": [], "autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}  # noqa: RUF012

        def __init__(self) -> None:
            self.num_envs, self.params = num_envs, env.params
            self.single_observation_space = _space(gymnasium, env.obs_space)
            self.single_action_space = _space(gymnasium, env.action_space)
            self.observation_space = batch(self.single_observation_space, num_envs)
            self.action_space = batch(self.single_action_space, num_envs)
            self._reset = jax.jit(jax.vmap(env.reset, (0, None)))
            self._step = jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
            self._key: Any = None
            self._state: Any = None

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[Any, dict[str, Any]]:
            super().reset(seed=seed)
            self._key = jax.random.key(int(self.np_random.integers(2**31)))
            obs, self._state = self._reset(self._next(), self.params)
            return _shown(obs), {}

        def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
            if self._state is None:
                raise gymnasium.error.ResetNeeded("call reset() before step()")
            given = jnp.asarray(actions, jnp.float32 if isinstance(env.action_space, Box) else jnp.int32)
            self._state, now = self._step(self._next(), self._state, given, self.params)
            terminated, truncated = np.array(now.terminated), np.array(now.truncated)
            done, info = terminated | truncated, {}
            if done.any():
                last = np.full(num_envs, None, object)
                for i in np.flatnonzero(done):
                    last[i] = _shown(jax.tree.map(lambda x, i=i: x[i], now.next_obs))
                info = {"final_obs": last, "_final_obs": done, "final_info": {}, "_final_info": done}
            return _shown(now.obs), np.array(now.reward, np.float64), terminated, truncated, info

        def _next(self) -> jax.Array:
            self._key, key = jax.random.split(self._key)
            return jax.random.split(key, num_envs)

    return Adapted()


def _space(gymnasium: Any, space: Any) -> Any:
    if isinstance(space, Observation):
        parts = {("action_mask" if x == "legal" else x): y for x, y in space._asdict().items() if y is not None}
        mask = lambda box: gymnasium.spaces.MultiBinary(box.shape)  # noqa: E731
        return gymnasium.spaces.Dict(
            {x: mask(y) if y.low.dtype == bool else _space(gymnasium, y) for x, y in parts.items()}
        )
    if isinstance(space, Discrete):
        return gymnasium.spaces.Discrete(space.n)
    if isinstance(space, MultiDiscrete):
        return gymnasium.spaces.MultiDiscrete(space.n)
    if space.low.dtype == bool:
        return gymnasium.spaces.MultiBinary(space.shape)
    return gymnasium.spaces.Box(space.low, space.high, dtype=space.low.dtype)


def _shown(obs: Any) -> Any:
    """As gymnasium's spaces have it: NumPy arrays, bits for booleans, and a dict of several."""
    if isinstance(obs, Observation):
        return {("action_mask" if x == "legal" else x): _shown(y) for x, y in obs._asdict().items() if y is not None}
    array = np.array(obs)
    return array.astype(np.int8) if array.dtype == bool else array
