"""Environments that step in Python, on the host: policies scored in them, and training that survives their errors."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.drivers.evaluate import Episodes
from rlzoo.drivers.sweep import lane
from rlzoo.drivers.train import resume
from rlzoo.envs import spaces
from rlzoo.envs.observations import layout
from rlzoo.types import Algorithm, Box, Space


class HostError(RuntimeError):
    """An environment on the host raised; ``state`` is that of the last whole update before."""

    def __init__(self, text: str, state: Any) -> None:
        super().__init__(text)
        self.state = state


def resumed_outside(algo: Algorithm, state: Any, num_updates: int) -> Any:
    """As `rlzoo.resume`, in an environment on the host; the State given is not consumed.

    Raises:
        HostError: the environment did, with the State after the last whole update: what was seen until then is learned
            from once more, which is the same.
    """
    host, kept = algo.env.host, jax.tree.map(jnp.copy, state)
    host.remember()
    try:
        return jax.block_until_ready(resume(algo, state, num_updates))
    except Exception as error:
        if host.error is None:
            raise
        cause, calls = host.error, algo.steps_per_update // kept.envs.state.steps.shape[-1]  # an update
        whole = len(host.recorded) // calls
        host.repeat(whole * calls)
        state = resume(algo, kept, whole)[0] if whole else kept
        text = f"{algo.env.name} raised {type(cause).__name__} in update {int(state.step) + 1}: {cause}"
        raise HostError(text, state) from error


def evaluate_on_host(
    algo: Algorithm, state: Any, env: Any, num_episodes: int, seed: int = 0, deterministic: bool = True
) -> Episodes:
    """Run a policy in an environment of gymnasium's interface, such as MuJoCo's own tasks, episode by episode.

        rlzoo.evaluate_on_host(algo, state, "HalfCheetah-v5", 10).returns.mean()

    What D4RL's and Minari's scores are of: their data are of these environments, not of brax's.

    Args:
        algo: an algorithm, or a sweep. state: all of its lanes are tried, on episodes of the same seeds.
        env: a name of gymnasium's, or an object of its interface.
        num_episodes: 1 or more. seed: of the first episode's reset; that of the i-th is ``seed`` + i.
        deterministic: act by the mode of the policy; False samples.
    Returns:
        returns and lengths, f32[num_episodes], for a sweep f32[H, S, num_episodes].
    Raises:
        ValueError: observations or actions of other shapes than the policy's.
    """
    import gymnasium

    if num_episodes < 1:
        raise ValueError(f"num_episodes={num_episodes}; it must be 1 or more")
    made = gymnasium.make(env) if isinstance(env, str) else env
    name = env if isinstance(env, str) else type(made).__name__
    actions = spaces.read(made.action_space, f"{name}: its action space")
    observe, space = layout(name, jax.tree.map(np.asarray, made.reset(seed=seed)[0]), actions)
    if space.shape != algo.env.obs_space.shape or actions.shape != algo.env.action_space.shape:
        given, ours = (
            f"obs {x.shape}, actions {y}" for x, y in ((space, actions), (algo.env.obs_space, algo.env.action_space))
        )
        raise ValueError(f"{name} ({given}) does not fit; the policy was made for {algo.env.name} ({ours})")
    lanes = state.key.shape

    @jax.jit
    def act(actor, obs, key):
        return algo.policy(actor, jax.tree.map(lambda x: x[None], obs), key, deterministic)[0]

    found = []
    for where in np.ndindex(*lanes):
        actor = algo.actor(lane(state, *where) if lanes else state)
        play = partial(_episode, partial(act, actor), observe, made, actions)
        found.append([play(seed + number) for number in range(num_episodes)])
    numbers = np.array(found, np.float32).reshape(*lanes, num_episodes, 2)
    return Episodes(jnp.asarray(numbers[..., 0]), jnp.asarray(numbers[..., 1]))


def _episode(act: Any, observe: Any, env: Any, actions: Space, seed: int) -> tuple[float, int]:
    """Return and length."""
    obs, _ = env.reset(seed=seed)
    key, total, length, over = jax.random.key(seed), 0.0, 0, False
    while not over:
        action = np.asarray(act(observe(obs), jax.random.fold_in(key, length)))
        if isinstance(actions, Box):
            action = np.clip(action, actions.low, actions.high)
        obs, reward, terminated, truncated, _ = env.step(action if action.ndim else action.item())
        total, length, over = total + float(reward), length + 1, bool(terminated or truncated)
    return total, length
