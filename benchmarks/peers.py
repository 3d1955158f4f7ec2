"""What the benchmarks share: peers in virtual environments of their own, and measuring in fresh processes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

# What each peer needs, beside the same JAX as ours: the gymnax that Rejax was written for; gymnasium's environments.
REJAX = ("rejax==0.1.3", "gymnax==0.0.9", "brax==0.14.2")
SBX = ("sbx-rl==0.28.0", "gymnasium[classic-control,mujoco]", "minatar==1.0.15")


def rejax(gpu: bool = False) -> Path:
    """The Python of .bench/rejax, which is made if it is not there; with JAX for a GPU if ours runs on one."""
    return _environment("rejax", REJAX, gpu)


def sbx(gpu: bool = False) -> Path:
    """The Python of .bench/sbx, as `rejax`."""
    return _environment("sbx", SBX, gpu)


def _environment(name: str, packages: tuple[str, ...], gpu: bool) -> Path:
    home = Path(".bench") / name
    python, ready = home / "bin" / "python", home / "ready"
    jax = "jax[cuda12]" if gpu else "jax"
    asked = "\n".join([*packages, f"{jax}=={version('jax')}"])
    if not ready.exists() or ready.read_text() != asked:
        print(f"making {home} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *asked.splitlines()], check=True)
        ready.write_text(asked)
    return python


def in_turns(sides: Sequence[Any], rounds: int, measured: Callable[[Any], dict[str, Any]]) -> Iterator[dict[Any, Any]]:
    """Round by round what is measured of each side, their order turned in every other round."""
    for number in range(rounds):
        yield {side: measured(side) for side in (reversed(sides) if number % 2 else sides)}


def in_process(command: list[str]) -> dict[str, float]:
    """The last line that a measuring process prints; without a compilation cache, so that compiling is measured."""
    ours = ("JAX_COMPILATION_CACHE_DIR", "XLA_PYTHON_CLIENT_PREALLOCATE")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if result.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{result.stderr}")
    return json.loads(result.stdout.strip().splitlines()[-1])
