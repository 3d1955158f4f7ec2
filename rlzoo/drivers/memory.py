"""What a State takes, said and checked before anything is compiled."""

import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxprs_in_params

from rlzoo.machine import SHARE, device_memory, in_bytes
from rlzoo.types import Algorithm


def check(algo: Algorithm, state: Any, quiet: bool = False) -> None:
    """Say what the replay buffers of a State to be made will take; refuse a State that the device cannot hold.

    Args:
        state: shapes, as of `jax.eval_shape`.
    Raises:
        ValueError: larger than the device's memory; with the capacity that fits, if there is a replay buffer.
    """
    total = size_in_bytes(state)
    buffer = getattr(state, "replay", None) if hasattr(algo.config, "capacity") else None
    lanes = math.prod(state.key.shape)
    limit = device_memory()
    several = algo.devices is not None and algo.num_hypers is not None and jax.default_backend() != "cpu"
    if limit is not None and several:  # those of a CPU share its memory; one agent's State is on each, whole
        limit *= len(algo.devices or ())
    if limit is not None and total > SHARE * limit:
        there = "the devices have" if several else "the device has"
        text = f"{algo.name}: the state of {_lanes(lanes)} takes {in_bytes(total)}; {there} {in_bytes(limit)}"
        if buffer is None:
            raise ValueError(f"{text}; use fewer lanes, or smaller environments or networks")
        row = size_in_bytes(buffer) // (lanes * algo.config.capacity)
        fits = math.floor((SHARE * limit - (total - size_in_bytes(buffer))) / (row * lanes))
        block = getattr(algo.config, "rows", algo.steps_per_update)  # written at a time
        fits = fits // block * block
        if fits < max(algo.warmup_steps, block):
            least = f"the warmup of {algo.warmup_steps:,} fits" if algo.warmup_steps else f"{block:,} transitions fit"
            raise ValueError(f"{text}; use fewer lanes: not even {least}")
        raise ValueError(
            f"{text}: capacity={algo.config.capacity:,} transitions of {row} bytes do not fit; "
            f"use capacity={fits} or less, or fewer lanes"
        )
    if buffer is not None and not quiet:
        _say(algo.name, algo.config.capacity, size_in_bytes(buffer) // lanes, lanes)


def refuse_large(program: Any, *arguments: Any, what: str, num_devices: int = 1) -> None:
    """Raise for a program that computes arrays which the device cannot hold, before it is compiled.

    It is traced for that, and not again when it is called.

    Raises:
        ValueError: with the largest array's shape.
    """
    limit = device_memory()
    if limit is None:
        return
    size, shape = _once(_largest, program, arguments)
    if size > SHARE * limit * num_devices:
        raise ValueError(
            f"{what} computes arrays such as {shape}, {in_bytes(size)} together, and the device has {in_bytes(limit)}; "
            "use smaller sizes in its config, fewer lanes, or fewer updates at a time (num_updates, report_every)"
        )


def peak(program: Any, *arguments: Any) -> int:
    """Bytes that a program has in use at a time beside its arguments, at the most, were nothing in it fused."""
    return _once(_peak, program, arguments)


_FOUND: dict[Any, Any] = {}  # what was found of a program for arguments of some shapes


def _once(find: Callable[[Any], Any], program: Any, arguments: Any) -> Any:
    leaves, structure = jax.tree.flatten(arguments)
    shapes = ((x.shape, x.dtype) if hasattr(x, "dtype") else x if isinstance(x, int) else np.shape(x) for x in leaves)
    key = find, program, structure, *shapes
    if key not in _FOUND:
        while len(_FOUND) >= 256:
            _FOUND.pop(next(iter(_FOUND)))
        _FOUND[key] = find(program.trace(*arguments).jaxpr.jaxpr)
    return _FOUND[key]


def _bytes(aval: Any) -> int:
    return math.prod(aval.shape) * aval.dtype.itemsize if hasattr(aval, "dtype") else 0


def _largest(jaxpr: Any) -> tuple[int, str]:
    """Bytes of the most that one operation computes, a loop's results together, and the shape of its largest array."""
    largest = 0, ""
    for equation in jaxpr.eqns:
        arrays = [out.aval for out in equation.outvars]
        shape = getattr(max(arrays, key=_bytes, default=None), "shape", ())
        now = sum(map(_bytes, arrays)), str(list(shape))
        largest = max(largest, now, *map(_largest, jaxprs_in_params(equation.params)))
    return largest


def _peak(jaxpr: Any) -> int:
    last = {id(x): i for i, equation in enumerate(jaxpr.eqns) for x in equation.invars}
    last |= {id(x): len(jaxpr.eqns) for x in jaxpr.outvars}
    there: dict[int, int] = {}
    most = 0
    for i, equation in enumerate(jaxpr.eqns):
        inside = max(map(_peak, jaxprs_in_params(equation.params)), default=0)
        there |= {id(x): _bytes(x.aval) for x in equation.outvars}
        most = max(most, sum(there.values()) + inside)
        for x in (*equation.invars, *equation.outvars):
            if last.get(id(x), i) <= i:
                there.pop(id(x), None)
    return most


def size_in_bytes(tree: Any) -> int:
    """Of all arrays, or shapes, in a pytree."""
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


@functools.lru_cache(maxsize=64)
def _say(name: str, capacity: int, per_lane: int, lanes: int) -> None:
    """Once for each size: a loop over seeds need not repeat it."""
    together = f", {in_bytes(per_lane * lanes)} in {_lanes(lanes)}" if lanes > 1 else ""
    print(f"{name}: replay of {capacity:,} transitions, {in_bytes(per_lane)} a lane{together}", file=sys.stderr)


def _lanes(lanes: int) -> str:
    return "one agent" if lanes == 1 else f"{lanes} lanes"
