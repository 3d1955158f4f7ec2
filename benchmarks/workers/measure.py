"""How speed is measured, in the same words for every library; importing it needs NumPy and JAX alone."""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

REPEATS = 3


def case() -> dict[str, Any]:
    """What is to be measured, given as JSON: algorithm, env, lanes, updates, sizes."""
    return json.loads(sys.argv[1])


def speed(run: Callable[[], Any], steps: int) -> float:
    """Steps per second, of whatever one run has `steps` of: the median of repeats, after one that warms up."""
    seconds = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - began)
    return steps / float(np.median(seconds[1:]))


class Timed(NamedTuple):
    """One of rlzoo's algorithms, timed."""

    speed: float  # updates per second, over all lanes
    compile: float  # seconds
    program: Any  # compiled
    state: Any  # after the last repeat


def timed(algo: Any, lanes: int, updates: int, spread: bool = False) -> Timed:
    """Compile `updates` of an algorithm, alone or as a sweep of lanes, perhaps spread, and run them repeatedly."""
    import rlzoo  # the peers' environments have none
    from rlzoo.drivers.train import compiled_chunk

    key = jax.random.key(0)
    if lanes > 1:
        algo, key = rlzoo.sweep(algo), jax.random.split(key, lanes)
        algo = rlzoo.spread(algo) if spread else algo
    state = rlzoo.init(algo, key, quiet=True)
    began = time.perf_counter()
    program = compiled_chunk(algo, state, updates)
    compile_seconds = time.perf_counter() - began

    def run() -> Any:
        nonlocal state
        state, metrics = rlzoo.resume(algo, state, updates)
        return state, metrics

    return Timed(speed(run, lanes * updates), compile_seconds, program, state)


def peak_memory() -> float:
    """MiB: of the accelerator where there is one, otherwise of the process."""
    statistics = jax.local_devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    if statistics:
        return statistics["peak_bytes_in_use"] / 2**20
    # Of this program alone: what getrusage says survives an exec, and so begins with the parent's memory.
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


def say(steps_per_second: float, compile_seconds: float) -> None:
    figures = {"speed": steps_per_second, "compile": compile_seconds, "memory": peak_memory()}
    library = {"rlzoo": sys.modules["rlzoo"].__file__} if "rlzoo" in sys.modules else {}
    print(json.dumps(figures | library | {"device": jax.devices()[0].device_kind}))
