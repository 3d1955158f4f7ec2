"""Structured observations, dicts, tuples and named tuples of arrays, nested or not, as one array or an `Observation`.

Images [H, W, C], 3 x 3 or more, stand side by side along their channels, for a convolution. All else is flattened into
one vector, in the order of `jax.tree.leaves`: that of the sorted keys of a dict, of the fields of a named tuple. Arrays
of one type keep it; of several the vector, or the image, is float32. Two fields mean something by their name: a mask of
legal actions (`LEGAL`), and what critics alone see (`PRIVILEGED`).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.types import Box, Observation, Space, num_choices

LEGAL = ("action_mask", "legal_action_mask", "legal")  # a bool an action, see `Observation`
PRIVILEGED = ("privileged_state", "privileged")


def kept(obs: Any) -> Any:
    """Arrays as buffers keep them: real numbers as float32, booleans and whole numbers as they are."""

    def one(x: Any) -> jax.Array:
        x = jnp.asarray(x)
        return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(one, obs)


def layout(name: str, example: Any, action_space: Space) -> tuple[Callable[[Any], Any], Box | Observation]:
    """How observations like ``example``, arrays or their shapes, are laid out: a function of them, and its space.

    Raises:
        ValueError: an entry that is no array of numbers, images of several sizes, nothing that a policy sees, or a mask
            that does not fit the actions.
    """
    places: dict[str, list[int]] = {"vector": [], "image": [], "legal": [], "privileged": []}
    entries = jax.tree_util.tree_leaves_with_path(example)
    for number, (path, x) in enumerate(entries):
        places[_place(f"{name}: its observation's {_said(path)}", path, x, action_space)].append(number)
    sizes = {entries[i][1].shape[:2] for i in places["image"]}
    if len(sizes) > 1:
        given = ", ".join(f"{_said(entries[i][0])} {list(entries[i][1].shape)}" for i in places["image"])
        raise ValueError(
            f"{name}: its observation has images of several sizes, {given}; give them one, or flatten them"
        )
    if not places["vector"] and not places["image"]:
        raise ValueError(f"{name}: its observation has nothing but a mask, or what critics see, for a policy to see")
    if len(entries) == 1 and not places["legal"]:  # an array alone keeps its shape
        space = _box(jax.eval_shape(kept, entries[0][1]))
        return lambda obs: kept(jax.tree.leaves(obs)[0]), space

    def observe(obs: Any) -> Any:
        leaves = jax.tree.leaves(obs)
        parts = {part: [kept(leaves[i]) for i in numbers] for part, numbers in places.items() if numbers}
        found = Observation(**{part: _joined(x, flat=part in ("vector", "privileged")) for part, x in parts.items()})
        alone = [x for x in found if x is not None]
        return alone[0] if len(alone) == 1 else found

    return observe, jax.tree.map(_box, jax.eval_shape(observe, example))


def _place(what: str, path: Any, x: Any, action_space: Space) -> str:
    """The field of an `Observation` where an entry belongs."""
    given = getattr(x, "dtype", type(x).__name__)
    if not any(jnp.issubdtype(getattr(x, "dtype", object), kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise ValueError(f"{what} is {given}; allowed are arrays of real numbers or bools")
    key = path[-1] if path else None
    field = str(getattr(key, "key", getattr(key, "name", "")))
    if field in LEGAL:
        number = num_choices(action_space)
        if jnp.issubdtype(x.dtype, jnp.bool_) and x.shape == (number,):
            return "legal"
        fits = f"bool[{number}]" if number else "left out, as real actions have no mask"
        raise ValueError(f"{what} is {given}{list(x.shape)}, and the actions are {action_space}; it must be {fits}")
    if field in PRIVILEGED:
        return "privileged"
    return "image" if len(x.shape) == 3 and min(x.shape[:2]) >= 3 else "vector"


def _said(path: Any) -> str:
    return f"entry {jax.tree_util.keystr(path)}" if path else "array"


def _joined(arrays: list[jax.Array], flat: bool) -> jax.Array:
    """Side by side along the last axis, in float32 if they are of several types."""
    arrays = [x.ravel() for x in arrays] if flat else arrays
    same = len({x.dtype for x in arrays}) == 1
    return jnp.concatenate([x if same else x.astype(jnp.float32) for x in arrays], axis=-1)


def _box(shape: Any) -> Box:
    """All that an array of its type can hold."""
    ends: tuple[float, float]
    if shape.dtype == bool:
        ends = False, True
    elif jnp.issubdtype(shape.dtype, jnp.integer):
        ends = np.iinfo(shape.dtype).min, np.iinfo(shape.dtype).max
    else:
        ends = -math.inf, math.inf
    return Box(*(np.full(shape.shape, end, shape.dtype) for end in ends))
