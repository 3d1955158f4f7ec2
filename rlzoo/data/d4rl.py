"""D4RL's HDF5 files, and its reference scores (Fu et al. 2020, arXiv:2004.07219; the package's version 1.1).

Rows are (obs_i, action_i, reward_i, flags_i), all episodes one after another. The conversion is the one that PRDC,
A2PR, TD3+BC and ReBRAC use: the successor of row i is the observation of row i + 1; a row that ends by a time-out is
dropped, because its successor belongs to another episode; so is the last row. Behind a terminal row the successor is
the first observation of the next episode: harmless, since it is never bootstrapped from.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlzoo.data.dataset import About, Dataset, checked, equal_rows, finite, fits, flags


class Reference(NamedTuple):
    random: float  # return of the uniformly random policy
    expert: float
    horizon: int  # steps of an episode


# Every quality and version of a family shares its scores.
REFERENCES = {
    "halfcheetah": Reference(-280.178953, 12135.0, 1000),
    "hopper": Reference(-20.272305, 3234.3, 1000),
    "walker2d": Reference(1.629008, 4592.3, 1000),
    "ant": Reference(-325.6, 3879.7, 1000),
    "antmaze-umaze": Reference(0.0, 1.0, 700),
    "antmaze": Reference(0.0, 1.0, 1000),
    "maze2d-open": Reference(0.01, 20.66, 150),
    "maze2d-umaze": Reference(23.85, 161.86, 300),
    "maze2d-medium": Reference(13.13, 277.39, 600),
    "maze2d-large": Reference(6.7, 273.99, 800),
    "maze2d-umaze-dense": Reference(68.537689, 193.66285642381482, 300),
    "maze2d-medium-dense": Reference(44.264742, 297.4552547777125, 600),
    "maze2d-large-dense": Reference(30.569041, 303.4857382709002, 800),
    "kitchen": Reference(0.0, 4.0, 280),
    "pen": Reference(96.262799, 3076.8331017826877, 100),
    "hammer": Reference(-274.856578, 12794.134825156867, 200),
    "door": Reference(-56.512833, 2880.5693087298737, 200),
    "relocate": Reference(-6.425911, 4233.877797728884, 200),
}

KEYS = ("observations", "actions", "rewards", "terminals")


def reference(name: str) -> Reference | None:
    """The reference of a dataset, from its name or that of its file; None if D4RL has none."""
    return REFERENCES.get(_prefix(name))


def family(name: str) -> str:
    """The environments that a dataset is of, such as hopper or antmaze; empty if D4RL has none of that name."""
    return _prefix(name).partition("-")[0]


def _prefix(name: str) -> str:
    """The longest name in `REFERENCES` that a dataset's begins with."""
    name = name.lower().replace("_", "-").replace("ant-maze-u-maze", "antmaze-umaze").replace("ant-maze", "antmaze")
    fitting = [prefix for prefix in REFERENCES if name == prefix or name.startswith(f"{prefix}-")]
    return max(fitting, key=len, default="")


def load(path: str | Path, name: str = "", horizon: int | None = None) -> Dataset:
    """Read and convert a D4RL file. Other keys (``infos/…``, ``metadata/…``, ``next_observations``) are passed over.

    Args:
        name: of the dataset, for its reference scores; default: the file's.
        horizon: steps of an episode, for files without ``timeouts``; default: the reference's.
    Raises:
        ValueError: damaged, incomplete, not finite, or too large for the device; nothing is half loaded.
    """
    path = Path(path)
    name = name or path.stem
    known = reference(name)
    raw = _read(path)
    num_rows = len(raw["rewards"])
    terminal = raw["terminals"]
    if "timeouts" in raw:
        final = raw["timeouts"]
    else:
        horizon = horizon or (known.horizon if known else None)
        if horizon is None:
            raise ValueError(
                f"{path} has no key 'timeouts', and {name!r} is no dataset whose horizon is known; "
                "give rlzoo.data.load(..., horizon=), and rlzoo.data.save the result for the command line"
            )
        final = _at_the_horizon(terminal, horizon)

    kept = np.flatnonzero(~final[:-1])
    if not len(kept):
        raise ValueError(f"{path} has no transitions: its {num_rows} rows are all ends of episodes")
    arrays = {
        "obs": raw["observations"][kept],
        "action": raw["actions"][kept],
        "reward": raw["rewards"][kept],
        "next_obs": raw["observations"][kept + 1],
        "terminated": terminal[kept],
        "last": np.append(np.diff(kept) > 1, True),  # what followed was dropped
    }
    scores = (known.random, known.expert) if known else ()
    return checked(arrays, About(name, family(name), *scores), str(path))


def _at_the_horizon(terminal: np.ndarray, horizon: int) -> np.ndarray:
    """Rows that are the ``horizon``-th of their episode; a terminal or such a row ends one."""
    final, age = np.zeros(len(terminal), bool), 0
    for i, ended in enumerate(terminal.tolist()):
        final[i] = age == horizon - 1
        age = 0 if ended or final[i] else age + 1
    return final


def _read(path: Path) -> dict[str, Any]:
    """The arrays of an HDF5 file, checked in shape and for finite numbers."""
    import h5py

    if not path.exists():
        raise ValueError(f"there is no file {path}")
    try:
        with h5py.File(path, "r") as file:
            names, outside = sorted(file), refers_outside(file)
            keys = [key for key in (*KEYS, "timeouts") if key in names]
            arrays = [key for key in keys if not outside and isinstance(file[key], h5py.Dataset)]
            arrays = [key for key in arrays if file[key].shape is not None]
            kinds, sizes = ({key: f(file[key]) for key in arrays} for f in (lambda x: x.dtype.kind, lambda x: x.size))
    except Exception as error:  # h5py raises many kinds for damaged files
        raise _damaged(path, error) from error
    if outside:
        raise ValueError(f"{path}: {outside} is a link, or lies elsewhere; a dataset holds its numbers itself")
    missing = [key for key in KEYS if key not in keys]
    if missing:
        has = ", ".join(names) or "nothing"
        raise ValueError(f"{path} lacks {', '.join(missing)}; it has {has}; a D4RL file has {', '.join(KEYS)}")
    for key in keys:
        if key not in arrays or kinds[key] not in "biuf":
            raise ValueError(f"{path}: {key} is no array of numbers; it must be one")
    kept = 2 * sizes["observations"] + sizes["actions"] + sizes["rewards"]
    fits(max(kept, sum(sizes.values())), str(path))  # before anything is read
    try:
        with h5py.File(path, "r") as file:
            raw = {key: file[key][()] for key in keys}
    except Exception as error:
        raise _damaged(path, error) from error

    for key in ("rewards", "terminals", "timeouts"):
        if key in raw and raw[key].ndim == 2 and raw[key].shape[1] == 1:
            raw[key] = raw[key][:, 0]
    num_rows = equal_rows(raw, str(path))
    if num_rows < 2:
        raise ValueError(f"{path} has {num_rows} rows; a transition needs two")
    for key, dims in (("observations", 2), ("actions", 2), ("rewards", 1), ("terminals", 1), ("timeouts", 1)):
        if key in raw and raw[key].ndim != dims:
            wanted = [num_rows, "…"][:dims]
            raise ValueError(
                f"{path}: {key} has shape {list(raw[key].shape)}; it must be [{', '.join(map(str, wanted))}]"
            )
    for key in ("observations", "actions", "rewards"):
        raw[key] = raw[key].astype(np.float32)
        finite(raw[key], str(path), key)
    for key in ("terminals", "timeouts"):
        if key in raw:
            raw[key] = flags(raw[key], str(path), key)
    return raw


def refers_outside(file: Any) -> str:
    """The first name in an HDF5 file that is a link or lies in another file, which loading must not open; or none."""
    import h5py

    found: list[str] = []

    def of_link(name: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            found.append(name)

    def of_item(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
            found.append(name)

    file.visititems_links(of_link)
    file.visititems(of_item)
    return found[0] if found else ""


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged, or no HDF5 file: {error}; copy or download it again")
