"""Our environments as gymnasium's, for its tools, and for libraries that train in Python such as Stable-Baselines3."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.envs.suites import imported
from rlzoo.types import Box, Discrete, Env, MultiDiscrete, Observation, environment


class _Played:
    """One environment, or several, played from Python: compiled, with keys of their own."""

    def __init__(self, env: Env, num_envs: int | None = None) -> None:
        several = (lambda key: jax.random.split(key, num_envs)) if num_envs else lambda key: key
        mapped = jax.vmap if num_envs else lambda function, axes: function
        self.dtype = jnp.float32 if isinstance(env.action_space, Box) else jnp.int32
        self.now: Any = None  # key, and the environments' states

        @jax.jit
        def begin(key: jax.Array, params: Any) -> tuple[Any, Any]:
            key, reset_key = jax.random.split(key)
            obs, state = mapped(env.reset, (0, None))(several(reset_key), params)
            return (key, state), obs

        @jax.jit
        def go_on(now: Any, action: jax.Array, params: Any) -> tuple[Any, Any]:
            key, step_key = jax.random.split(now[0])
            state, seen = mapped(env.step, (0, 0, 0, None))(several(step_key), now[1], action, params)
            return (key, state), seen

        self._begin, self._go_on = begin, go_on

    def reset(self, random: np.random.Generator, params: Any) -> Any:
        self.now, obs = self._begin(jax.random.key(int(random.integers(2**31))), params)
        return _shown(obs)

    def step(self, action: Any, params: Any) -> Any:
        if self.now is None:
            raise imported("gymnasium", "gymnasium").error.ResetNeeded("call reset() before step()")
        self.now, seen = self._go_on(self.now, np.asarray(action, self.dtype), params)
        return jax.device_get(seen)


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
            self.params, self._played = env.params, _Played(env)
            self.observation_space = _space(gymnasium, env.obs_space)
            self.action_space = _space(gymnasium, env.action_space)

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            super().reset(seed=seed)
            return self._played.reset(self.np_random, self.params), {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            now = self._played.step(action, self.params)
            return _shown(now.next_obs), float(now.reward), bool(now.terminated), bool(now.truncated), {}

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
            self.num_envs, self.params, self._played = num_envs, env.params, _Played(env, num_envs)
            self.single_observation_space = _space(gymnasium, env.obs_space)
            self.single_action_space = _space(gymnasium, env.action_space)
            self.observation_space = batch(self.single_observation_space, num_envs)
            self.action_space = batch(self.single_action_space, num_envs)

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            super().reset(seed=seed)
            return self._played.reset(self.np_random, self.params), {}

        def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
            now = self._played.step(actions, self.params)
            done, info = now.terminated | now.truncated, {}
            if done.any():
                last = np.full(num_envs, None, object)
                for i in np.flatnonzero(done):
                    last[i] = _shown(jax.tree.map(lambda x, i=i: x[i], now.next_obs))
                info = {"final_obs": last, "_final_obs": done, "final_info": {}, "_final_info": done}
            return _shown(now.obs), now.reward.astype(np.float64), now.terminated, now.truncated, info

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
