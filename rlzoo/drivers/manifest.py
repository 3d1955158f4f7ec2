"""What a State belongs to, as JSON values: written beside it, compared when it is loaded, and enough to rebuild it."""

import dataclasses
import math
import re
import zlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.algorithms import ALGORITHMS
from rlzoo.algorithms.config import as_dict, on_record
from rlzoo.data.dataset import checksum
from rlzoo.envs import recipes
from rlzoo.files import first_difference, plain
from rlzoo.types import Algorithm

FORMAT = 3
READABLE = (2, FORMAT)  # format 2 was the State as a tree, which orbax names by its own rules
MOST = 100_000  # numbers of changed parameters that are written
LIBRARIES = ("rlzoo", "jax", "jaxlib", "flax", "optax", "gymnax", "brax", "orbax-checkpoint")


def manifest(algo: Algorithm, state: Any) -> dict[str, Any]:
    """Of a State, or of its shapes."""
    config = as_dict(algo.config)
    return {
        "format": FORMAT,
        "algorithm": algo.name,
        "config": plain(config),
        "own": [name for name, value in config.items() if not _is_plain(value)],
        "env": algo.env.name,
        "horizon": algo.env.horizon,
        "recipe": recipes.of(algo.env),
        "task": fingerprint(algo.task),
        "static": static(algo.task),
        "params": None if algo.offline else changed(algo.task, recipes.default_params(algo.env)),
        "lanes": list(state.key.shape),
        "in_lanes": algo.in_lanes,
        "hyper": {name: jnp.asarray(x).tolist() for name, x in algo.hyper._asdict().items()},
        "step": int(state.step),
        "leaves": _leaves(state),
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def refuse_other(found: Mapping[str, Any], expected: Mapping[str, Any], what: str, remedy: str = "") -> None:
    """Raise at the first difference that makes a State unreadable, by name."""
    if found.get("format") not in READABLE:
        raise ValueError(f"{what}: format is {found.get('format')!r}, expected is {FORMAT}{remedy}")
    module = ALGORITHMS.get(str(found.get("algorithm")))
    if module is not None and isinstance(found.get("config"), dict):
        found = {**found, "config": on_record(module.Config, found["config"])}
    for key in ("algorithm", "config", "env", "horizon", "lanes", "leaves"):
        key, ours, theirs = first_difference(key, expected[key], found.get(key))
        if ours != theirs:
            raise ValueError(f"{what}: {key} is {theirs!r}, expected is {ours!r}{remedy}")
    orders = [list(leaves) for leaves in (found["leaves"], expected["leaves"])]
    if found["format"] == FORMAT and orders[0] != orders[1]:  # it is by their places that they are read
        raise ValueError(f"{what}: its leaves are in the order {orders[0]}, expected is {orders[1]}{remedy}")


def other_numbers(algo: Algorithm, about: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The hyperparameters that differ: name -> (saved, given)."""
    saved, found = about["hyper"], {}
    for name, value in algo.hyper._asdict().items():
        given = np.asarray(value, np.float32)
        if name not in saved or not np.array_equal(given, np.float32(saved[name]), equal_nan=True):
            found[name] = saved.get(name), given.tolist()
    return found


def refuse_other_task(algo: Algorithm, about: Mapping[str, Any], run: Any) -> None:
    """Raise where a run is to go on with other environment parameters, arrays or not, or with other data."""
    given = static(algo.task)
    saved = about.get("static", given)  # older checkpoints do not say
    for name in sorted({*given, *saved}):
        if saved.get(name) != given.get(name):
            raise ValueError(
                f"{name} of the task is {given.get(name)}, but the run in {run} has {saved.get(name)}; "
                "resume with the same"
            )
    if about["task"] != fingerprint(algo.task):
        raise ValueError(f"the run in {run} has another task (environment parameters or dataset); resume with the same")


def fingerprint(task: Any) -> str:
    """A checksum of a task's arrays, to tell whether a run goes on with what it began with."""
    return checksum(getattr(task, "transitions", task))  # of a dataset its rows; what is computed of them follows


def static(task: Any) -> dict[str, str]:
    """What a task's containers hold beside arrays, such as fields with ``pytree_node=False``: name -> its text."""
    found: dict[str, str] = {}

    def walk(node: Any) -> None:
        data: Any = node.node_data() or (dict, None)
        kind, held = data
        if held is not None and kind is not dict:
            fields = [x.name for x in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
            names = [x for x in fields if not kind.__dataclass_fields__[x].metadata.get("pytree_node", True)]
            values = held if isinstance(held, tuple) and len(names) == len(held) else (held,)
            for name, value in zip(names if len(names) == len(values) else [""] * len(values), values, strict=True):
                text = _said(value)
                text = text if len(text) <= 80 else f"{text[:60]}… {zlib.crc32(text.encode()):08x}"
                title = f"{kind.__name__}.{name}" if name else kind.__name__
                again = sum(x.partition(" ")[0] == title for x in found)
                found[f"{title} {again + 1}" if again else title] = text
        for child in node.children():
            walk(child)

    walk(jax.tree.structure(getattr(task, "transitions", task)))
    return found


def changed(task: Any, default: Any) -> dict[str, Any] | None:
    """The leaves that differ from the default ones: path -> dtype, nested lists. None: too many, or no numbers."""
    structures: list[Any] = [jax.tree.structure(task), jax.tree.structure(default)]
    if structures[0] != structures[1]:
        return None
    found: dict[str, Any] = {}
    size = 0
    leaves = zip(jax.tree_util.tree_leaves_with_path(task), jax.tree.leaves(default), strict=True)
    for (path, x), before in leaves:
        if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
            return None
        now, then = np.asarray(x), np.asarray(before)
        if now.shape == then.shape and now.tobytes() == then.tobytes():
            continue
        size += math.prod(now.shape)
        if size > MOST or now.dtype.kind not in "biuf":
            return None
        found[jax.tree_util.keystr(path)] = [str(now.dtype), now.tolist()]
    return found


def put(default: Any, params: Mapping[str, Any]) -> Any:
    """The inverse of `changed`: the default leaves with those of ``params`` in their places."""

    def one(path: Any, x: Any) -> Any:
        name = jax.tree_util.keystr(path)
        if name not in params:
            return x
        dtype, values = params[name]
        if jax.dtypes.canonicalize_dtype(dtype) != dtype:  # no array of JAX's: a plain number, or NumPy's
            return np.asarray(values, dtype) if isinstance(values, list) else values
        return jnp.asarray(values, dtype)

    return jax.tree_util.tree_map_with_path(one, default)


def _leaves(state: Any) -> dict[str, str]:
    """Path -> dtype[shape] of every leaf; the clock is the same in all."""
    leaves = jax.tree_util.tree_leaves_with_path(state._replace(step=None))
    return {jax.tree_util.keystr(path): f"{x.dtype}{list(x.shape)}" for path, x in leaves}


def _is_plain(value: Any) -> bool:
    """Whether JSON gives it back: numbers, texts, and tuples of them."""
    return all(map(_is_plain, value)) if isinstance(value, tuple) else isinstance(value, str | int | float | None)


def _said(value: Any, depth: int = 4) -> str:
    """A text that equal values share, in every process: without addresses, and sets in order."""
    if isinstance(value, np.ndarray | jax.Array):
        return f"{value.dtype}{list(value.shape)} {zlib.crc32(np.asarray(value).tobytes()):08x}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_said(k, depth)}: {_said(x, depth)}' for k, x in value.items())}}}"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(_said(x, depth) for x in value))}}}"
    if isinstance(value, tuple | list):
        return f"({', '.join(_said(x, depth) for x in value)})"
    if type(value).__repr__ is object.__repr__ and hasattr(value, "__dict__") and depth:
        return f"{type(value).__name__}{_said(vars(value), depth - 1)}"
    return re.sub(r" at 0x\w+", "", repr(value))


def _version(name: str) -> str:
    """Of an installed package; rlzoo itself may be a folder on the path."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
