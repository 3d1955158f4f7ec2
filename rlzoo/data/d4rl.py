"""D4RL's HDF5 files (Fu et al. 2020, arXiv:2004.07219; the package's version 1.1).

Rows are (obs_i, action_i, reward_i, flags_i), all episodes one after another. There are two rules by which they become
transitions.

``true``, the default: every row whose successor is known is one. Where the file has ``next_observations`` they are the
successors, of time-outs and of the last row too; and where that of row i is not the observation of row i + 1, the file
jumps there, whatever its flags say. Without the key the successor of row i is the observation of row i + 1 inside an
episode; a terminal row is kept with its reward, and its own observation stands where the unknown terminal one belongs,
which nothing bootstraps from; a row that a time-out ends, or the file, has no successor and is left out.

``qlearning``: that of the package's `qlearning_dataset`, with which PRDC, A2PR, TD3+BC and ReBRAC were published. The
successor is always the observation of row i + 1; rows that a time-out ends, and the last row, are left out. So behind a
terminal row stands the next episode's first observation, and what was earned in rows that are left out is lost from
returns. (One departure: without ``timeouts`` the steps of an episode are counted from its first row, also after a
terminal one, where the package is one ahead, and may join two episodes.)
"""

from pathlib import Path
from typing import Any

import numpy as np

from rlzoo import names
from rlzoo.data.dataset import About, Dataset, checked, equal_rows, finite, fits, flags, numbers_of
from rlzoo.data.references import REFERENCES, Reference, family, reference

__all__ = ["KEYS", "REFERENCES", "RULES", "Reference", "arrays_in", "family", "load", "reference", "refers_outside"]

KEYS = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations")
RULES = ("true", "qlearning")


def load(path: str | Path, name: str = "", horizon: int | None = None, rule: str = "true") -> Dataset:
    """Read and convert a D4RL file. Keys that neither rule needs (``infos/…``, ``metadata/…``) are passed over.

    Args:
        name: of the dataset, for its reference scores; default: the file's.
        horizon: steps of an episode, for files without ``timeouts``; default: the reference's.
        rule: ``true`` or ``qlearning``, see above.
    Raises:
        ValueError: damaged, incomplete, not finite, or too large for the device; nothing is half loaded.
    """
    names.check("rule", [rule], RULES)
    if horizon is not None and (isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1):
        raise ValueError(f"horizon={horizon!r}; it must be a whole number of steps, 1 or more")
    path = Path(path)
    name = name or path.stem
    known = reference(name)
    raw = _read(path, (*KEYS, *(OPTIONAL if rule == "true" else OPTIONAL[:1])))
    timeouts = raw.get("timeouts")
    if timeouts is None and horizon is None and "next_observations" in raw:
        timeouts = np.zeros(len(raw["rewards"]), bool)  # the successors alone tell where an episode ends
    elif timeouts is None:
        horizon = horizon or (known.horizon if known else None)
        if horizon is None:
            raise ValueError(
                f"{path} has no key 'timeouts', and {name!r} is no dataset whose horizon is known; "
                "give rlzoo.data.load(..., horizon=), and rlzoo.data.save the result for the command line"
            )
        timeouts = _at_the_horizon(raw["terminals"], horizon)

    arrays = _true(raw, timeouts) if rule == "true" else _qlearning(raw, timeouts)
    if not len(arrays["reward"]):
        raise ValueError(f"{path} has no transitions: its {len(timeouts)} rows are all ends of episodes")
    scores = (known.random, known.expert) if known else ()
    return checked(arrays, About(name, family(name), *scores), str(path))


def _true(raw: dict[str, Any], timeouts: np.ndarray) -> dict[str, np.ndarray]:
    """Transitions with their true successors, and those that end without one by their own rules."""
    obs, terminal = raw["observations"], raw["terminals"]
    if "next_observations" in raw:
        next_obs = raw["next_observations"]
        follows = (next_obs[:-1] == obs[1:]).all(axis=1)
        return _rows(raw, slice(None), next_obs, np.append(timeouts[:-1] | ~follows, True))
    kept = np.flatnonzero(terminal | ~np.append(timeouts[:-1], True))
    next_obs = obs[np.where(terminal[kept], kept, np.minimum(kept + 1, len(obs) - 1))]
    return _rows(raw, kept, next_obs, _jumps(kept) | timeouts[kept])


def _qlearning(raw: dict[str, Any], timeouts: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of `qlearning_dataset`."""
    kept = np.flatnonzero(~timeouts[:-1])
    return _rows(raw, kept, raw["observations"][kept + 1], _jumps(kept))


def _jumps(kept: np.ndarray) -> np.ndarray:
    """Of rows that are kept, those behind which one was left out, or nothing is."""
    return np.append(np.diff(kept) > 1, True)[: len(kept)]


def _rows(raw: dict[str, Any], kept: Any, next_obs: np.ndarray, last: np.ndarray) -> dict[str, np.ndarray]:
    named = {"obs": "observations", "action": "actions", "reward": "rewards", "terminated": "terminals"}
    return {key: raw[its][kept] for key, its in named.items()} | {"next_obs": next_obs, "last": last}


def _at_the_horizon(terminal: np.ndarray, horizon: int) -> np.ndarray:
    """Rows that are the ``horizon``-th of their episode; a terminal or such a row ends one."""
    final, age = np.zeros(len(terminal), bool), 0
    for i, ended in enumerate(terminal.tolist()):
        final[i] = age == horizon - 1
        age = 0 if ended or final[i] else age + 1
    return final


def _read(path: Path, wanted: tuple[str, ...]) -> dict[str, Any]:
    """The arrays of an HDF5 file, those of `wanted` that are there, checked in shape and for finite numbers."""
    import h5py

    if not path.exists():
        raise ValueError(f"there is no file {path}")
    try:
        with h5py.File(path, "r") as file:
            has, outside = sorted(file), refers_outside(file)
            keys = [key for key in wanted if key in has]
            arrays = [key for key in keys if not outside and isinstance(file[key], h5py.Dataset)]
            arrays = [key for key in arrays if file[key].shape is not None]
            kinds = {key: file[key].dtype.kind for key in arrays}
            sizes = {key: numbers_of(file[key]) for key in arrays}
    except Exception as error:  # h5py raises many kinds for damaged files
        raise _damaged(path, error) from error
    if outside:
        raise ValueError(f"{path}: {outside} is a link, or lies elsewhere; a dataset holds its numbers itself")
    missing = [key for key in KEYS if key not in keys]
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(has) or 'nothing'}; a D4RL file has "
            f"{', '.join(KEYS)}"
        )
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
    if not num_rows:
        raise ValueError(f"{path} has no rows; it needs one or more")
    for key in keys:
        dims = 2 if "observations" in key or key == "actions" else 1
        if raw[key].ndim != dims:
            shape = ", ".join(map(str, [num_rows, "…"][:dims]))
            raise ValueError(f"{path}: {key} has shape {list(raw[key].shape)}; it must be [{shape}]")
    if "next_observations" in raw and raw["next_observations"].shape != raw["observations"].shape:
        shapes = [list(raw[key].shape) for key in ("observations", "next_observations")]
        raise ValueError(
            f"{path}: observations has shape {shapes[0]}, next_observations {shapes[1]}; they must be equal"
        )
    for key in keys:
        if key in ("terminals", "timeouts"):
            raw[key] = flags(raw[key], str(path), key)
        else:
            with np.errstate(over="ignore"):  # becomes infinite, and is refused as such
                raw[key] = raw[key].astype(np.float32)
            finite(raw[key], str(path), key)
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


def arrays_in(file: Any) -> list[Any]:
    """All arrays of an HDF5 file, not read yet."""
    import h5py

    found: list[Any] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged, or no HDF5 file: {error}; copy or download it again")
