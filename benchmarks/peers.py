"""What the benchmarks share: peers in virtual environments of their own, and measuring in fresh processes."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path


def rejax() -> Path:
    """The Python of .bench/rejax: Rejax 0.1.3 with the gymnax it was written for, beside the same JAX as ours."""
    home = Path(".bench/rejax")
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        print(f"making {home} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        packages = ["rejax==0.1.3", "gymnax==0.0.9", f"jax=={version('jax')}"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (home / "ready").touch()
    return python


def in_process(command: list[str]) -> dict[str, float]:
    """The last line that a measuring process prints; without a compilation cache, so that compiling is measured."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if result.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{result.stderr}")
    return json.loads(result.stdout.strip().splitlines()[-1])
