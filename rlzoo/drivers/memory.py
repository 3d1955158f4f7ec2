"""What a State takes, said and checked before anything is compiled."""

import functools
import math
import sys
from typing import Any

import jax

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
