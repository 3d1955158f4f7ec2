"""Minari datasets, read from and written to a local folder by Minari itself (``pip install "rlzoo[minari]"``).

Every episode has one observation more than steps, so that a step cut by a time limit has its true successor: it is
kept, without being terminated. (D4RL's files lack it; ``drop_timeouts`` leaves those steps out as there.) Observations
that are dictionaries are flattened: their entries one after another in alphabetical order, or those of ``obs_keys``,
in that order. D4RL's AntMaze is ``obs_keys=("achieved_goal", "observation")``.
"""

import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rlzoo.data import d4rl
from rlzoo.data.dataset import Dataset, about_of, checked, equal_rows, fits, flags


def load(path: str | Path, obs_keys: tuple[str, ...] | None = None, drop_timeouts: bool = False) -> Dataset:
    """Read a Minari dataset's folder: the one that has ``data`` in it, or ``data`` itself.

    Args:
        obs_keys: entries of dictionary observations, in the order in which they are joined; default: all of them.
        drop_timeouts: leave out steps that were truncated.
    Raises:
        ValueError: not a Minari dataset, unsupported observations, or not finite.
    """
    minari, path = _minari(), Path(path)
    folder = path / "data" if (path / "data").is_dir() else path
    _refuse_links(folder)
    try:
        source = minari.MinariDataset(folder)
        one = source.observation_space.sample()
        numbers = 2 * int(source.total_steps) * sum(np.size(x) for x in jax.tree.leaves(one))
    except Exception as error:  # Minari raises whatever its back-ends raise
        raise _damaged(path, error) from error
    fits(numbers, str(path))  # before anything is read
    try:
        episodes = list(source.iterate_episodes())
    except Exception as error:
        raise _damaged(path, error) from error
    if not episodes:
        raise ValueError(f"{path} has no episodes; it needs one or more")

    pieces: dict[str, list[np.ndarray]] = {
        key: [] for key in ("obs", "action", "reward", "next_obs", "terminated", "last")
    }
    for episode in episodes:
        where = f"{path}, episode {episode.id}"
        obs = _flat(episode.observations, obs_keys, where)
        steps = len(episode.rewards)
        if len(obs) != steps + 1:
            raise ValueError(f"{where}: {len(obs)} observations of {steps} steps; it needs one more than steps")
        if isinstance(episode.actions, dict | tuple):
            kind = type(episode.actions).__name__
            raise ValueError(f"{where}: its actions are a {kind} of arrays; rlzoo's algorithms need one array")
        columns = {
            "obs": obs[:-1],
            "action": np.asarray(episode.actions),
            "reward": np.asarray(episode.rewards),
            "next_obs": obs[1:],
            "terminated": np.asarray(episode.terminations),
            "truncated": np.asarray(episode.truncations),
        }
        equal_rows(columns, where)
        keep = ~(flags(columns["truncated"], where, "truncations") & drop_timeouts)
        columns["last"] = keep & ~np.append(keep[1:], False)  # what followed is another episode, or was dropped
        for key, parts in pieces.items():
            if parts and parts[0].shape[1:] != columns[key].shape[1:]:
                shapes = [list(x.shape[1:]) for x in (columns[key], parts[0])]
                raise ValueError(f"{where}: a row of {key} has shape {shapes[0]}, of the first episode {shapes[1]}")
            parts.append(columns[key][keep])
    arrays = {key: np.concatenate(x) for key, x in pieces.items()}
    metadata = source.storage.metadata
    scores = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    # Of what others recorded, such as mujoco/walker2d/medium-v0, the family is in the id.
    family = next(filter(None, map(d4rl.family, str(source.id).split("/"))), "")
    return checked(arrays, about_of(source.id, metadata.get("rlzoo_env", family), *scores), str(path))


def save(dataset_id: str, dataset: Dataset, env: Any) -> None:
    """Write into Minari's own place of datasets (``MINARI_DATASETS_PATH``), under an id such as "me/hopper-v0".

    A piece that ends without being terminated is written as truncated.

    Args:
        env: gives the spaces.
    """
    minari = _minari()
    from gymnasium import spaces
    from minari.data_collector import EpisodeBuffer

    from rlzoo.types import Discrete

    obs_space = spaces.Box(env.obs_space.low, env.obs_space.high, dtype=np.float32)
    space = env.action_space
    action_space = (
        spaces.Discrete(space.n) if isinstance(space, Discrete) else spaces.Box(space.low, space.high, dtype=np.float32)
    )
    buffers, start = [], 0
    host = {key: np.asarray(getattr(dataset, key)) for key in ("obs", "action", "reward", "next_obs", "terminated")}
    for end in (dataset.ends() + 1).tolist():
        rows = slice(start, end)
        truncated = np.zeros(end - start, bool)
        truncated[-1] = not host["terminated"][end - 1]
        buffers.append(
            EpisodeBuffer(
                observations=np.concatenate([host["obs"][rows], host["next_obs"][end - 1 : end]]),
                actions=host["action"][rows],
                rewards=host["reward"][rows],
                terminations=host["terminated"][rows],
                truncations=truncated,
                infos={},
            )
        )
        start = end
    with warnings.catch_warnings():  # of authors and links that are not given
        warnings.simplefilter("ignore", UserWarning)
        made = minari.create_dataset_from_buffers(
            dataset_id, buffer=buffers, observation_space=obs_space, action_space=action_space
        )
    about = dataset.about
    extra = {"rlzoo_env": about.env, "ref_min_score": about.random_score, "ref_max_score": about.expert_score}
    made.storage.update_metadata({key: value for key, value in extra.items() if value not in (None, "")})


def _refuse_links(folder: Path) -> None:
    """Numbers are to be in the dataset's own files."""
    import h5py

    for path in sorted(folder.glob("*.hdf5")):
        try:
            with h5py.File(path, "r") as file:
                outside = d4rl.refers_outside(file)
        except Exception as error:
            raise _damaged(path, error) from error
        if outside:
            raise ValueError(f"{path}: {outside} is a link, or lies elsewhere; a dataset holds its numbers itself")


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged, or no Minari dataset: {type(error).__name__}: {error}")


def _flat(obs: Any, keys: tuple[str, ...] | None, where: str) -> np.ndarray:
    """Observations [T + 1, ...]; those of a dictionary side by side, [T + 1, sum of sizes]."""
    if isinstance(obs, tuple):
        raise ValueError(f"{where}: its observations are tuples; arrays and dictionaries of arrays are supported")
    if not isinstance(obs, dict):
        if keys is not None:
            raise ValueError(f"{where}: its observations have no keys; leave obs_keys={keys} out")
        return np.asarray(obs)
    unknown = [key for key in keys or () if key not in obs]
    if unknown:
        raise ValueError(f"{where}: obs_keys {', '.join(unknown)} are not among {', '.join(sorted(obs))}")
    for key in keys or sorted(obs):
        if isinstance(obs[key], dict | tuple):
            raise ValueError(
                f"{where}: its observations' entry {key} is a {type(obs[key]).__name__}; it must be an array; choose "
                "others by obs_keys"
            )
    chosen = [np.asarray(obs[key]) for key in keys or sorted(obs)]
    return np.concatenate([x.reshape(len(x), -1) for x in chosen], axis=1)


def _minari() -> Any:
    try:
        import minari
    except ImportError as error:
        raise ValueError('Minari is not installed; pip install "rlzoo[minari]"') from error
    return minari
