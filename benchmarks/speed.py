"""The table of speed: rlzoo beside Rejax 0.1.3 and SBX 0.28, one agent and 64, with compile time and peak memory.

    python benchmarks/speed.py [--rounds 3] [--only "PPO CartPole"] [--scale 1] [--record]

All train networks of the same sizes on batches of the same sizes; SBX on gymnasium's environments, which are other
programs of the same or a like task; MuJoCo's HalfCheetah-v5, which steps in Python, is the same for both. Each
measurement is a process of its own, and libraries take turns: ours, Rejax, SBX, ours, … Ratios are taken round by
round, and medians printed. Peers live in virtual environments of their own under .bench, which this script makes.
`--scale` trains for longer, for faster machines.
"""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # in this process, which leaves an accelerator to its workers

import jax
import numpy as np
import peers
import tables

WORKERS = Path(__file__).parent / "workers"
LANES = 64
PPO = {"num_envs": 64, "num_steps": 64, "num_minibatches": 8, "num_epochs": 4, "hidden": [64, 64]}
SAC = {"batch_size": 256, "capacity": 100_000, "warmup": 1_000, "hidden": [256, 256]}


@dataclass(frozen=True)
class Task:
    name: str
    algorithm: str
    sizes: dict[str, Any]
    updates: dict[int, int]  # of one repeat, by lanes
    rlzoo: str  # the environment's name in each library; none: it is not measured
    rejax: str
    sbx: str
    env_options: dict[str, Any] = field(default_factory=dict)

    def case(self, lanes: int, updates: int, library: str = "rlzoo", **more: Any) -> str:
        """What a worker is asked for."""
        asked = {"algorithm": self.algorithm, "env": getattr(self, library), "env_options": self.env_options}
        return json.dumps(asked | {"sizes": self.sizes, "lanes": lanes, "updates": updates} | more)


SPRING = {"backend": "spring"}
HOST = {"num_envs": 16, "num_steps": 128}  # environments that step in Python, for us and for SBX
TASKS = (
    Task("PPO CartPole", "ppo", PPO, {1: 100, LANES: 4}, "gymnax/CartPole-v1", "CartPole-v1", "CartPole-v1"),
    Task(
        "PPO Breakout-MinAtar",
        "ppo",
        PPO,
        {1: 40, LANES: 2},
        "gymnax/Breakout-MinAtar",
        "Breakout-MinAtar",
        "MinAtar/Breakout-v1",
    ),
    Task(
        "PPO halfcheetah",
        "ppo",
        PPO | {"num_steps": 16},
        {1: 20, LANES: 2},
        "brax/halfcheetah",
        "brax/halfcheetah",
        "HalfCheetah-v5",
        SPRING,
    ),
    Task("SAC Pendulum", "sac", SAC, {1: 600, LANES: 30}, "gymnax/Pendulum-v1", "Pendulum-v1", "Pendulum-v1"),
    Task("SAC hopper", "sac", SAC, {1: 600, LANES: 30}, "brax/hopper", "brax/hopper", "Hopper-v5", SPRING),
    Task("PPO HalfCheetah-v5, host", "ppo", PPO | HOST, {1: 8}, "gymnasium/HalfCheetah-v5", "", "HalfCheetah-v5"),
    Task("SAC HalfCheetah-v5, host", "sac", SAC, {1: 1_000}, "gymnasium/HalfCheetah-v5", "", "HalfCheetah-v5"),
)
LIBRARIES = ("rlzoo", "rejax", "sbx")


def measured(task: Task, library: str, lanes: int, scale: int) -> dict[str, Any] | None:
    """Steps per second, seconds to compile, MiB at the peak; None of what failed, with its last word on stderr."""
    gpu = jax.default_backend() == "gpu"
    python = {"rlzoo": lambda: Path(sys.executable), "rejax": lambda: peers.rejax(gpu), "sbx": lambda: peers.sbx(gpu)}
    worker = {"rlzoo": "ours.py", "rejax": "with_rejax.py", "sbx": "with_sbx.py"}[library]
    updates = task.updates[lanes] * scale
    if library == "sbx" and task.algorithm == "ppo" and task.rejax:  # its loop in Python needs no long runs
        updates = max(2, updates // 20)
    try:
        return peers.in_process([str(python[library]()), str(WORKERS / worker), task.case(lanes, updates, library)])
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"{task.name}, {library}, {lanes} lanes: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
        return None


def rows_of(task: Task, rounds: int, scale: int) -> list[dict[str, Any]]:
    """Of each library and number of lanes one row of the table."""
    libraries = [library for library in LIBRARIES if getattr(task, library)]
    sides = [(library, lanes) for lanes in task.updates for library in libraries if lanes == 1 or library != "sbx"]
    found: dict[tuple[str, int], list[dict[str, Any] | None]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            found[side].append(measured(task, *side, scale))
            last = found[side][-1]
            print(f"{task.name}, round {number + 1}, {side[0]}, {side[1]} lanes: {last}", flush=True)
    rows = []
    for (library, lanes), each in found.items():
        ours = found["rlzoo", lanes]
        good = [x for x in each if x is not None]
        pairs = [mine["speed"] / x["speed"] for mine, x in zip(ours, each, strict=True) if x and mine]

        def median(name: str, good=good) -> float:
            return float(np.median([x[name] for x in good])) if good else float("nan")

        rows.append(
            {
                "task": task.name,
                "library": library,
                "environment": getattr(task, library),
                "lanes": lanes,
                "steps_per_second": median("speed"),
                "ours_over_it": float(np.median(pairs)) if pairs else float("nan"),
                "ratio_low": min(pairs, default=float("nan")),
                "ratio_high": max(pairs, default=float("nan")),
                "compile_seconds": median("compile"),
                "peak_memory_mib": median("memory"),
                "rounds": len(good),
                "device": good[0]["device"] if good else "",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[task.name for task in TASKS], help="these tasks (default: all)")
    parser.add_argument("--scale", type=int, default=1, help="times as many updates in a repeat")
    parser.add_argument("--record", action="store_true", help="write the table into docs/benchmarks and the README")
    options = parser.parse_args()

    from rlzoo.report.record import commit, hardware, slug

    about = {"hardware": hardware(), "commit": commit(), "date": date.today().isoformat(), "jax": version("jax")}
    about["command"] = shlex.join(["python", "benchmarks/speed.py", *sys.argv[1:]])
    for task in TASKS:
        if options.only and task.name not in options.only:
            continue
        rows = [row | about for row in rows_of(task, options.rounds, options.scale)]
        print("\n".join(tables.speed(rows)))
        if options.record:
            kind = "cpu" if rows[0]["device"] == "cpu" else slug(rows[0]["device"])
            tables.DIRECTORY.mkdir(exist_ok=True)
            path = tables.DIRECTORY / f"speed_{kind}.csv"
            kept = [row for row in tables.read(path) if row["task"] != task.name] if path.exists() else []
            order = [task.name for task in TASKS]
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0].keys())
                writer.writeheader()
                writer.writerows(sorted([*kept, *rows], key=lambda row: order.index(row["task"])))
            tables.write()


if __name__ == "__main__":
    main()
