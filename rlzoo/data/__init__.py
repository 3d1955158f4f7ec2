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
from rlzoo.data.weights import mix, weighted

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
    "mix",
    "normalised_score",
    "npz",
    "preferences",
    "quality",
    "save",
    "weighted",
]


def load(path: str | Path, **options: Any) -> Dataset:
    """Read a dataset: a .npz file of ours, D4RL's .hdf5, or of Minari a folder, or the id of one on this machine.

    Args:
        options: of `d4rl.load` (``name``, ``horizon``, ``rule``) or `minari.load` (``obs_keys``, ``drop_timeouts``).
    Raises:
        ValueError: another kind of file, or one that is damaged, incomplete or not finite.
    """
    load_format = loader(path)
    names.check("option of this format", options, list(inspect.signature(load_format).parameters)[1:])
    return load_format(located(path), **options)


def located(path: str | Path) -> Path:
    """The path, or where nothing is there that of the dataset of this id which Minari keeps on this machine."""
    path = Path(path)
    return path if path.exists() else minari.local(path) or path


def loader(path: str | Path) -> Callable[..., Dataset]:
    """The function that reads the format of what is there."""
    given, path = path, located(path)
    loaders: dict[str, Callable[..., Dataset]] = {".npz": npz.load, ".hdf5": d4rl.load, ".h5": d4rl.load}
    found = minari.load if path.is_dir() else loaders.get(path.suffix)
    if found is not None:
        return found
    what = (
        "no dataset is known at" if path.exists() else f"there is nothing at, and in {minari.root()} no dataset of id"
    )
    raise ValueError(
        f"{what} {given}; give a .npz of rlzoo, a .hdf5 of D4RL, a Minari dataset's folder, or its id "
        "(after `minari download ID`)"
    )
