"""Record transitions: of a policy in its environment, or out of a replay buffer."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo import machine
from rlzoo.blocks import networks, rollout
from rlzoo.data.dataset import About, Dataset, array_shape, finite
from rlzoo.types import Env, Transition, environment, mask_of

Policy = Callable[[jax.Array, jax.Array], jax.Array]


def collect(
    env: Env,
    policy: Policy | None,
    key: jax.Array,
    num_rows: int,
    num_envs: int = 16,
    task: Any = None,
    about: About = About(),
) -> Dataset:
    """Run ``num_envs`` environments side by side in one program, each for its share of the rows.

    Rows of one environment are together, in the order of time; its last episode is cut where its share ends.

    Args:
        policy: (obs [num_envs, ...], key) -> actions of the environment; of an algorithm
            ``lambda obs, key: algo.policy(algo.actor(state), obs, key)``. None: uniformly random actions.
        num_rows: a multiple of ``num_envs``. task: the environment's parameters; default: its own.
        about: the environment's name is filled in.
    Raises:
        ValueError: the rows do not divide among the environments, do not fit into memory, or hold a number that is not
            finite.
    """
    environment(env, "collect")
    if num_envs < 1 or num_rows < 1 or num_rows % num_envs:
        raise ValueError(
            f"num_rows={num_rows} is no multiple of num_envs={num_envs}, 1 or more; every environment takes its share"
        )
    seen = math.prod(array_shape(env, "a dataset"))
    row = 2 * seen + math.prod(env.action_space.shape) + 2  # numbers, next_obs among them
    machine.refuse_more("rows", num_rows, 2 * 4 * row)  # as they are recorded, and then side by side
    act = policy or partial(at_random, env)
    steps = num_rows // num_envs

    @jax.jit
    def record(key, task):
        start_key, run_key = jax.random.split(key)
        envs = rollout.init(env, start_key, task, num_envs)
        batch = rollout.collect(env, lambda obs, key: (act(obs, key), ()), envs, run_key, task, steps)[1]
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), batch)

    rows = record(key, env.params if task is None else task)
    return _dataset(rows, steps, about._replace(env=env.name))


def at_random(env: Env, obs: Any, key: jax.Array) -> jax.Array:
    """Uniform actions [N, ...] in each of N environments, of those that are legal."""
    keys = jax.random.split(key, len(jax.tree.leaves(obs)[0]))
    return jax.vmap(env.action_space.sample)(keys, mask_of(obs))


def from_replay(env: Env, replay: Transition, written: int, num_envs: int = 1, about: About = About()) -> Dataset:
    """All that a replay buffer holds, such as SAC's ``state.replay``, as a Dataset.

    Rows are sorted by environment, so that episodes are together, and by time.

    Args:
        replay: rows [capacity, ...], those of one time side by side; actions as the critics see them, in [-1, 1] or
            integers. written: the agent's environment steps until then; beyond the capacity the oldest rows are gone.
        num_envs: how many ran side by side.
    Raises:
        ValueError: the rows do not divide among the environments.
    """
    capacity = len(replay.reward)
    if written < 1 or written % num_envs or capacity % num_envs:
        raise ValueError(
            f"written={written} of capacity={capacity}; both must be multiples of num_envs={num_envs}, 1 or more"
        )
    num_rows = min(written, capacity)
    oldest = written % capacity if written > capacity else 0
    by_time = (oldest + jnp.arange(num_rows)) % capacity
    by_env = by_time.reshape(-1, num_envs).T.reshape(-1)
    rows = jax.tree.map(lambda x: x[by_env], replay)
    rows = rows._replace(action=env.action_space.from_policy(rows.action))
    return _dataset(rows, num_rows // num_envs, about._replace(env=env.name))


def _dataset(rows: Transition, steps: int, about: About) -> Dataset:
    """Of rows by environment, ``steps`` of each: the last one is cut."""
    masks = mask_of(rows.obs)
    arrays = (jnp.asarray(networks.seen(networks.public(x)), jnp.float32) for x in (rows.obs, rows.next_obs))
    rows = rows._replace(**dict(zip(("obs", "next_obs"), arrays, strict=True)))
    for key in ("obs", "action", "reward", "next_obs"):
        finite(np.asarray(getattr(rows, key)), f"a recording of {about.env}", key)
    last = (rows.terminated | rows.truncated).at[steps - 1 :: steps].set(True)
    return Dataset(rows.obs, rows.action, rows.reward, rows.next_obs, rows.terminated, last, about, masks)
