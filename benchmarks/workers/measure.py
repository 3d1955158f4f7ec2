"""What a worker measures, in the same words for every library; needs NumPy and JAX alone."""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

REPEATS = 3


def case() -> dict[str, Any]:
    """What is to be measured, given as JSON: algorithm, env, lanes, updates, sizes."""
    return json.loads(sys.argv[1])


def speed(run: Callable[[], Any], steps: int) -> float:
    """Environment steps per second: the median of repeats, after one that warms up."""
    seconds = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - began)
    return steps / float(np.median(seconds[1:]))


def peak_memory() -> float:
    """MiB: of the accelerator where there is one, otherwise of the process."""
    statistics = jax.local_devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    if statistics:
        return statistics["peak_bytes_in_use"] / 2**20
    # Of this program alone: what getrusage says survives an exec, and so begins with the parent's memory.
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


def say(steps_per_second: float, compile_seconds: float) -> None:
    figures = {"speed": steps_per_second, "compile": compile_seconds, "memory": peak_memory()}
    print(json.dumps(figures | {"device": jax.devices()[0].device_kind}))
