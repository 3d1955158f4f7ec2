"""Results that are dear and depend on data alone: computed once, and kept.

In memory, the newest few. On disk too where JAX keeps compiled programs (``jax_compilation_cache_dir``, which the
command line sets): a run that is resumed or evaluated finds there what it was trained with.
"""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.arrays import members, read_members
from rlzoo.files import whole

NEWEST = 4  # results in memory
DEAR = 2**20  # bytes from which on a result is written to disk

_RESULTS: dict[str, Any] = {}


def name_of(kind: str, arrays: Any, *numbers: Any) -> str:
    """A name that other arrays or numbers do not have. ``kind`` names the computation, and its version."""
    digest = hashlib.sha256(repr(numbers).encode())
    for leaf in jax.tree.leaves(arrays):
        host = np.asarray(leaf)
        digest.update(f"{host.shape} {host.dtype}".encode() + host.tobytes())
    return f"{kind}-{digest.hexdigest()[:32]}"


def kept(name: str, compute: Callable[[], Any], like: Any, dear: bool = False) -> Any:
    """The result of this name, or else ``compute()``.

    Args:
        like: the result's pytree, of shapes; what is on disk and differs, or is damaged, is computed again.
        dear: to be written however small it is.
    """
    if name not in _RESULTS:
        found = _read(name, like)
        if found is None:
            found = compute()
            _write(name, found, dear)
        while len(_RESULTS) >= NEWEST:
            _RESULTS.pop(next(iter(_RESULTS)))
        _RESULTS[name] = found
    return _RESULTS[name]


def _path(name: str) -> Path | None:
    programs = jax.config.values["jax_compilation_cache_dir"]
    return None if programs is None or "://" in programs else Path(programs) / "rlzoo" / f"{name}.npz"


def _read(name: str, like: Any) -> Any:
    path = _path(name)
    if path is None or not path.exists():
        return None
    leaves, structure = jax.tree.flatten(like)
    wanted = {str(i): x for i, x in enumerate(leaves)}
    try:
        found = members(path, wanted)
        if any(key not in found or found[key][1:] != (x.shape, x.dtype) for key, x in wanted.items()):
            return None
        arrays = read_members(path, found)
    except (OSError, ValueError):  # damaged: it is computed and written again
        return None
    return jax.tree.unflatten(structure, [jnp.asarray(arrays[key]) for key in wanted])


def _write(name: str, result: Any, dear: bool) -> None:
    path, leaves = _path(name), jax.tree.leaves(result)
    if path is None or not (dear or sum(x.nbytes for x in leaves) >= DEAR):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as file:
            np.savez(file, allow_pickle=False, **{str(i): np.asarray(x) for i, x in enumerate(leaves)})
    except OSError as error:  # a full or read-only disk costs the file, not the result
        warnings.warn(f"{path} cannot be written and will be computed again: {error}", stacklevel=3)
