"""Show what a policy does: one episode as a moving picture, or as brax's page."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rlzoo.drivers.evaluate import default_task
from rlzoo.drivers.sweep import Axes, swept_axes
from rlzoo.envs import brax
from rlzoo.types import Algorithm, Env


class Recorded(NamedTuple):
    """One episode of L steps."""

    obs: np.ndarray  # [L + 1, ...], the first before any step, the last the episode's true last
    action: np.ndarray  # [L, ...]
    reward: np.ndarray  # f32[L]
    states: Any  # of the environment, [L, ...] each, before the steps


def episode(
    algo: Algorithm, env: Env, state: Any, key: jax.Array, task: Any = None, deterministic: bool = True
) -> Recorded:
    """Record one episode of one agent's policy; arguments as of `rlzoo.evaluate`.

    Raises:
        ValueError: the State is a sweep's.
    """
    if state.key.ndim:
        raise ValueError(
            f"the state holds agents {list(state.key.shape)}; an episode is of one: "
            "rlzoo.setting(runs, h) with rlzoo.lane(state, h, s)"
        )
    task = default_task(algo, env) if task is None else task
    if any(axis is not None for axis in Axes(swept_axes(env.params, task, "task")).leaves):
        raise ValueError("task has a swept leaf, and an episode is of one task; give one")
    static = algo.actor, algo.policy, env.reset, env.step, env.horizon, deterministic
    obs, states, action, now = _recording(*static)(state, task, key)
    done = np.asarray(now.terminated | now.truncated)
    length = int(done.argmax()) + 1 if done.any() else env.horizon
    seen = np.concatenate([np.asarray(obs)[:length], np.asarray(now.next_obs)[length - 1 : length]])
    cut = jax.tree.map(lambda x: x[:length], (action, now.reward, states))
    return Recorded(seen, np.asarray(cut[0]), np.asarray(cut[1]), cut[2])


@functools.lru_cache(maxsize=64)
def _recording(actor, policy, reset, step, horizon, deterministic):
    @jax.jit
    def run(state, task, key):
        acting = actor(state)
        reset_key, run_key = jax.random.split(key)

        def one(carry, key):
            obs, inner = carry
            act_key, env_key = jax.random.split(key)
            action = policy(acting, obs[None], act_key, deterministic)[0]
            after, now = step(env_key, inner, action, task)
            return (now.obs, after), (obs, inner, action, now)

        return jax.lax.scan(one, reset(reset_key, task), jax.random.split(run_key, horizon))[1]

    return run


def render(
    path: str | Path,
    algo: Algorithm,
    env: Env,
    state: Any,
    key: jax.Array,
    task: Any = None,
    deterministic: bool = True,
    scene: Callable[[Any], Callable[[np.ndarray], None]] | None = None,
) -> Path:
    """Draw one episode of one agent's policy into a file, and return its path.

        rlzoo.render("episode.gif", rlzoo.setting(runs, 0), env, rlzoo.lane(state, 0, 0), jax.random.key(1))

    Args: as of `rlzoo.evaluate`, and
        path: a .gif, or where there is an ffmpeg a .mp4, of gymnax's classic environments, of any whose
            observations are grids of cells, and of others with a ``scene``; an .html of brax's.
        scene: a function of matplotlib's `Axes` that sets the stage and returns a function that draws an observation.
    Raises:
        ValueError: another suffix, an environment without a scene, or the State of a sweep.
    """
    from rlzoo.report import scenes  # which loads matplotlib

    path = Path(path)
    name = env.name.split()[0].rpartition("/")[2]
    of_brax = env.name.split("/")[0] == "brax"
    if of_brax and scene is None:
        if path.suffix != ".html":
            raise ValueError(f"{path}: brax is shown in a browser; give a name that ends in .html")
        recorded = episode(algo, env, state, key, task, deterministic)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(brax.html(default_task(algo, env) if task is None else task, recorded.states))
        return path
    scene = scene or scenes.scene_of(name, env.obs_space.shape)
    if scene is None:
        known = ", ".join(scenes.SCENES)
        raise ValueError(
            f"no scene of {env.name} is known; known are {known}, grids of cells, and brax: give scene=, a function "
            "of matplotlib's Axes that returns a function which draws an observation"
        )
    recorded = episode(algo, env, state, key, task, deterministic)
    seconds = scenes.SECONDS_PER_STEP.get(name, 0.1)
    return scenes.animate(path, recorded.obs, recorded.reward, scene, title=name, seconds_per_step=seconds)
