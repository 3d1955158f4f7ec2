"""Datasets as npz files of our own: one array a field, and text about it. Loading executes no code."""

import json
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlzoo.data.dataset import About, Dataset, about_of, checked, fits, numbers_of
from rlzoo.files import LARGEST, whole

FIELDS = ("obs", "action", "reward", "next_obs", "terminated", "last")


def save(path: str | Path, dataset: Dataset) -> Path:
    """Write ``path``, compressed; a kill in between leaves no half file. Returns the path, which ends in .npz."""
    return write(path, {field: np.asarray(getattr(dataset, field)) for field in FIELDS}, dataset.about)


def load(path: str | Path) -> Dataset:
    """Read what `save` wrote.

    Raises:
        ValueError: not such a file, damaged, or a transition crosses from one episode into the next.
    """
    dataset = checked(*read(path, FIELDS), str(path))
    _refuse_crossing(dataset, str(path))
    return dataset


def write(path: str | Path, arrays: dict[str, np.ndarray], about: About) -> Path:
    """Write arrays and text about them; a kill in between leaves no half file."""
    path = Path(path)
    path = path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays, about=np.array(json.dumps(about._asdict())))
    return path


class Member(NamedTuple):
    """An array in a file that was not read yet."""

    name: str  # in the archive
    shape: tuple[int, ...]
    dtype: np.dtype


def read(path: str | Path, fields: tuple[str, ...]) -> tuple[dict[str, np.ndarray], About]:
    """What `write` wrote; a `ValueError` if the file is none, is damaged, larger than memory, or lacks a field."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    found = members(path, (*fields, "about"))
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
    return {key: arrays[key] for key in fields}, _about(arrays.get("about"), path)


def members(path: Path, fields: Iterable[str]) -> dict[str, Member]:
    """Those of ``fields`` that an npz file has, with their shapes and dtypes; no number is read.

    Raises:
        ValueError: no npz file, damaged, or a member of such a name is no array of plain values.
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for key in fields:
                if f"{key}.npy" in names:
                    found[key] = _member(archive, f"{key}.npy")
                elif key in names:
                    raise ValueError(f"{key} is no array, but a file of another kind; write it with numpy.savez")
    except Exception as error:  # damaged bytes raise all sorts: of zipfile, zlib, struct, NumPy
        raise _damaged(path, error) from error
    return found


def _member(archive: zipfile.ZipFile, name: str) -> Member:
    """Of the header of an array, whose numbers are as many as the archive has bytes for."""
    info = archive.getinfo(name)
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{name} is of NumPy's format {version}; known are 1.0 and 2.0")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        begins = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are not loaded")
    if any(size < 0 for size in shape):
        raise ValueError(f"{name} has shape {list(shape)}")
    if begins + math.prod(shape) * dtype.itemsize != info.file_size:
        raise ValueError(f"{name} is {dtype}{list(shape)}, but has {info.file_size} bytes")
    return Member(name, shape, dtype)


def read_members(path: Path, found: dict[str, Member]) -> dict[str, np.ndarray]:
    """The arrays of what `members` found."""
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {}
            for key, member in found.items():
                with archive.open(member.name) as file:
                    arrays[key] = np.lib.format.read_array(file, allow_pickle=False)
            return arrays
    except Exception as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    what = f"{type(error).__name__}: {error}"
    return ValueError(f"{path} is damaged, or no npz file ({what}); write it again")


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
