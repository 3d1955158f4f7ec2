"""Minari datasets, read from and written to a local folder by Minari itself (``pip install "rlzoo[minari]"``).

Every episode has one observation more than steps, so that a step cut by a time limit has its true successor: it is
kept, without being terminated. (D4RL's files lack it; ``drop_timeouts`` leaves those steps out as there.) Observations
that are dictionaries are flattened: their entries one after another in alphabetical order, or those of ``obs_keys``,
in that order. D4RL's AntMaze is ``obs_keys=("achieved_goal", "observation")``.
"""

import json
import math
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rlzoo.data import d4rl, references
from rlzoo.data.dataset import Dataset, about_of, checked, equal_rows, fits, flags, numbers_of
from rlzoo.files import read_json


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
    held = _held(folder)
    try:
        declared = _declared(folder)
    except Exception as error:  # of whatever type a field is
        raise _damaged(path, error) from error
    fits(max(held, declared), str(path))  # before anything is read, and before Minari makes spaces of it
    try:
        source = minari.MinariDataset(folder)
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
        for name, x in (("observations", obs), ("rewards", episode.rewards)):
            if np.ndim(x) == 0:
                raise ValueError(f"{where}: its {name} are one number; it needs a row a step")
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
        for key in ("reward", "terminated", "truncated"):
            if columns[key].ndim != 1:
                shape = list(columns[key].shape)
                raise ValueError(f"{where}: {key} has shape {shape}; it needs one number a step, [{steps}]")
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
    family = next(filter(None, map(references.family, str(source.id).split("/"))), "")
    try:
        about = about_of(source.id, metadata.get("rlzoo_env", family), *scores)
    except (TypeError, ValueError, OverflowError) as error:
        raise _damaged(path, error) from error
    return checked(arrays, about, str(path))


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
    with warnings.catch_warnings(), _absolute_root():
        warnings.simplefilter("ignore", UserWarning)  # of authors and links that are not given
        made = minari.create_dataset_from_buffers(
            dataset_id, buffer=buffers, observation_space=obs_space, action_space=action_space
        )
    about = dataset.about
    extra = {"rlzoo_env": about.env, "ref_min_score": about.random_score, "ref_max_score": about.expert_score}
    made.storage.update_metadata({key: value for key, value in extra.items() if value not in (None, "")})


ROOT = "MINARI_DATASETS_PATH"


def root() -> Path:
    """Minari's own place of datasets."""
    return Path(os.environ.get(ROOT) or Path.home() / ".minari" / "datasets").absolute()


@contextmanager
def _absolute_root() -> Iterator[None]:
    """Minari cannot write to a relative path: it looks for its files under that twice."""
    before = os.environ.get(ROOT)
    os.environ[ROOT] = str(root())
    try:
        yield
    finally:
        os.environ.pop(ROOT)
        os.environ.update({} if before is None else {ROOT: before})


def local(dataset_id: str | Path) -> Path | None:
    """The folder of a dataset that Minari keeps on this machine, such as of D4RL/pen/human-v2; None: it has none."""
    if not re.fullmatch(r"([\w-]+/)*[\w-]+-v\d+", str(dataset_id)):
        return None
    folder = root() / dataset_id
    return folder if (folder / "data").is_dir() else None


def _held(folder: Path) -> int:
    """How many numbers the folder's HDF5 files hold, by their headers; they are to be in the dataset's own files."""
    import h5py

    held = 0
    for path in sorted(folder.glob("*.hdf5")):
        try:
            with h5py.File(path, "r") as file:
                outside, arrays = d4rl.refers_outside(file), d4rl.arrays_in(file)
                held += sum(numbers_of(x) for x in arrays if x.shape is not None)
        except Exception as error:
            raise _damaged(path, error) from error
        if outside:
            raise ValueError(f"{path}: {outside} is a link, or lies elsewhere; a dataset holds its numbers itself")
    return held


def _declared(folder: Path) -> int:
    """How many numbers the metadata speak of: observations, twice, and actions of so many steps.

    Raises:
        ValueError: a number that is none. Spaces that are missing, which Minari would ask an environment for, whose
            code it would run.
    """
    about = read_json(folder / "metadata.json")
    steps, episodes = (about.get(key) for key in ("total_steps", "total_episodes"))
    for key, count, most in (("total_steps", steps, math.inf), ("total_episodes", episodes, steps)):
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= most:
            raise ValueError(f"{key} is {count!r}; it must be a whole number" + f", {most} or less" * (most is steps))
    texts = [about.get(key) for key in ("observation_space", "action_space")]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("metadata.json has no observation_space, or no action_space")
    obs, action = (_size(json.loads(text)) for text in texts)
    return steps * (2 * obs + action)


def _size(space: Any) -> int:
    """How many numbers an element of a space has, in Minari's JSON; and its bounds are to be as many."""
    kind = space["type"]
    if kind in ("Dict", "Tuple"):
        parts = space["subspaces"]
        return sum(map(_size, parts.values() if kind == "Dict" else parts))
    if kind == "MultiDiscrete":
        return np.size(space["nvec"])
    if kind not in ("Box", "MultiBinary"):
        return 1
    shape = space["shape"] if kind == "Box" else np.atleast_1d(space["n"]).tolist()
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"a space of shape {shape}")
    numbers = math.prod(shape)
    if kind == "Box" and not numbers == np.size(space["low"]) == np.size(space["high"]):
        raise ValueError(f"a box of shape {shape} has other bounds than that")
    return numbers


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
