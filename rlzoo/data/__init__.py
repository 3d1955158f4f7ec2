"""Datasets of transitions: load, record, describe, save."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlzoo import names
from rlzoo.data import d4rl, minari, npz, preferences
from rlzoo.data.collect import collect, from_replay
from rlzoo.data.dataset import About, Dataset, best_episodes, concatenate, normalised_score
from rlzoo.data.npz import save
from rlzoo.data.quality import Quality, quality

__all__ = [
    "About",
    "Dataset",
    "Quality",
    "best_episodes",
    "collect",
    "concatenate",
    "d4rl",
    "from_replay",
    "load",
    "minari",
    "normalised_score",
    "npz",
    "preferences",
    "quality",
    "save",
]


def load(path: str | Path, **options: Any) -> Dataset:
    """Read a dataset: a .npz file of ours, D4RL's .hdf5, or the folder of a Minari dataset.

    Args:
        options: of `d4rl.load` (``name``, ``horizon``) or `minari.load` (``obs_keys``, ``drop_timeouts``).
    Raises:
        ValueError: another kind of file, or one that is damaged, incomplete or not finite.
    """
    load_format = loader(path)
    names.check("option of this format", options, list(inspect.signature(load_format).parameters)[1:])
    return load_format(path, **options)


def loader(path: str | Path) -> Callable[..., Dataset]:
    """The function that reads the format of what is there."""
    path = Path(path)
    loaders: dict[str, Callable[..., Dataset]] = {".npz": npz.load, ".hdf5": d4rl.load, ".h5": d4rl.load}
    found = minari.load if path.is_dir() else loaders.get(path.suffix)
    if found is not None:
        return found
    what = "there is nothing" if not path.exists() else "no dataset is known"
    raise ValueError(f"{what} at {path}; give a .npz of rlzoo, a .hdf5 of D4RL, or a Minari dataset's folder")
