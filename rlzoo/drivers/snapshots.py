"""Policies kept along one training, each with its score: to record data of any quality."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.drivers.devices import on_host
from rlzoo.drivers.evaluate import EVALUATION_SEED, evaluate
from rlzoo.drivers.train import init, resume
from rlzoo.types import Algorithm, Env


class Snapshots(NamedTuple):
    """K policies at equal distances in time, the last of them that of ``state``."""

    actors: list[Any]  # K times what the algorithm's policy takes
    num_updates: np.ndarray  # int[K], updates done
    returns: np.ndarray  # f32[K], mean over episodes; of a sweep [K, H, S]
    state: Any  # the last, to go on from


def snapshots(
    algo: Algorithm,
    key: jax.Array,
    num_updates: int,
    count: int = 40,
    num_episodes: int = 64,
    env: Env | None = None,
    eval_key: jax.Array | None = None,
    deterministic: bool = True,
    each: Callable[[int, np.ndarray], None] | None = None,
) -> Snapshots:
    """Train, and keep the policy ``count`` times on the way, evaluated on the same episodes each time.

    Args:
        key: a typed key; of a sweep keys [S].
        env: to evaluate in; default: the algorithm's own. eval_key: of the episodes; default: that of `run`.
        deterministic: evaluate the mode of the policy; False samples.
        each: called with the updates done and the returns after every snapshot, such as to print them.
    Raises:
        ValueError: fewer updates than snapshots.
    """
    if not 1 <= count <= num_updates:
        raise ValueError(f"count={count} of num_updates={num_updates}; it must be 1 to that")
    env, eval_key = env or algo.env, jax.random.key(EVALUATION_SEED) if eval_key is None else eval_key
    state, actors, returns = init(algo, key), [], []
    done = np.arange(1, count + 1) * num_updates // count  # in chunks of at most two lengths: two programs
    for chunk in np.diff(done, prepend=0):
        state, _ = resume(algo, state, int(chunk))
        actors.append(jax.tree.map(jnp.copy, algo.actor(state)))  # the next chunk consumes the State
        episodes = evaluate(algo, env, state, eval_key, num_episodes, deterministic=deterministic)
        returns.append(on_host(episodes.returns).mean(-1))
        if each is not None:
            each(int(done[len(actors) - 1]), returns[-1])
    return Snapshots(actors, done, np.stack(returns), state)
