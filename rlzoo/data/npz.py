"""Datasets as npz files of our own: one array a field, and text about it. Loading executes no code."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from rlzoo.arrays import members, read_members
from rlzoo.data.dataset import About, Dataset, about_of, checked, fits, numbers_of
from rlzoo.files import LARGEST, whole

FIELDS = ("obs", "action", "reward", "next_obs", "terminated", "last")
MASKS = "legal"  # a field that files have of environments with masks alone


def save(path: str | Path, dataset: Dataset) -> Path:
    """Write ``path``, compressed; a kill in between leaves no half file. Returns the path, which ends in .npz."""
    if dataset.weight is not None:
        raise ValueError(f"{path}: rows' weights are not saved; save the data without, and weigh it after loading")
    return write(path, arrays_of(dataset, FIELDS), dataset.about)


def load(path: str | Path) -> Dataset:
    """Read what `save` wrote.

    Raises:
        ValueError: not such a file, damaged, or a transition crosses from one episode into the next.
    """
    dataset = checked(*read(path, FIELDS), str(path))
    _refuse_crossing(dataset, str(path))
    return dataset


def arrays_of(data: Any, fields: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Fields as NumPy arrays, and the masks if there are some."""
    found = {field: getattr(data, field) for field in (*fields, MASKS)}
    return {field: np.asarray(x) for field, x in found.items() if x is not None}


def write(path: str | Path, arrays: dict[str, np.ndarray], about: About) -> Path:
    """Write arrays and text about them; a kill in between leaves no half file."""
    path = Path(path)
    path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays, about=np.array(json.dumps(about._asdict())))
    return path


def read(path: str | Path, fields: tuple[str, ...]) -> tuple[dict[str, np.ndarray], About]:
    """What `write` wrote; a `ValueError` if the file is none, is damaged, larger than memory, or lacks a field."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    found = members(path, (*fields, MASKS, "about"))
    has_text = found.pop("about", None)
    fits(sum(map(numbers_of, found.values())), str(path))  # before anything is read
    missing = [key for key in fields if key not in found]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(found)) or 'nothing of that'}; "
            f"it needs {', '.join(fields)}"
        )
    if has_text is not None and (has_text.dtype.kind != "U" or has_text.shape or has_text.dtype.itemsize > LARGEST):
        raise ValueError(f"{path}: its text 'about' is damaged: it is {has_text.dtype}{list(has_text.shape)}")
    arrays = read_members(path, found | ({} if has_text is None else {"about": has_text}))
    return {key: arrays[key] for key in (*fields, MASKS) if key in arrays}, _about(arrays.get("about"), path)


def _about(text: np.ndarray | None, path: Path) -> About:
    try:
        return About() if text is None else about_of(*About(**json.loads(str(text))))
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its text 'about' is damaged: {error}") from error


def _refuse_crossing(dataset: Dataset, where: str) -> None:
    """Inside an episode the successor is the next row's observation; otherwise an end is not marked."""
    same = np.asarray(dataset.next_obs[:-1]) == np.asarray(dataset.obs[1:])
    same = same.all(axis=tuple(range(1, same.ndim)))
    crossing = ~same & ~np.asarray(dataset.last[:-1])
    if crossing.any():
        row = int(np.argmax(crossing))
        raise ValueError(
            f"{where}: next_obs of row {row} is not obs of row {row + 1}, but row {row} is not marked as the last of "
            "its episode; set last there"
        )
