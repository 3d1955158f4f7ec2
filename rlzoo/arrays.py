"""Arrays in npz files: first what they are, by their headers, and then their numbers. No code of the file is run."""

import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Member(NamedTuple):
    """An array in a file that was not read yet."""

    name: str  # in the archive
    shape: tuple[int, ...]
    dtype: np.dtype


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
        raise _no_npz(path, error) from error
    return found


def _member(archive: zipfile.ZipFile, name: str) -> Member:
    """Of the header of an array, whose numbers are as many as the archive has bytes for."""
    info = archive.getinfo(name)
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):  # whose header is short; of later ones it may be gigabytes
            raise ValueError(f"{name} is of NumPy's format {version}; arrays of numbers are of 1.0")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
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
        raise _no_npz(path, error) from error


def _no_npz(path: Path, error: Exception) -> ValueError:
    what = f"{type(error).__name__}: {error}"
    return ValueError(f"{path} is damaged, or no npz file ({what}); write it again")
