"""A device for each core of a CPU: how much faster sweeps are when each core trains lanes of its own.

    python benchmarks/cores.py [--rounds 5] [--record]

64 agents of PPO and of SAC, with the sizes of the table of speed, on one device, whose operations share the cores, and
spread over as many devices as there are cores. The two take turns, each measurement in a process of its own.
"""

import argparse
import os
import sys
from functools import partial
from typing import Any

import numpy as np
import peers
from speed import LANES, TASKS, WORKERS, Task

from rlzoo.report.record import Figure, record

NAMES = ("PPO CartPole", "SAC Pendulum")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="write the figures into docs/results")
    options = parser.parse_args()
    cores, figures = len(os.sched_getaffinity(0)), []
    for task in (task for task in TASKS if task.name in NAMES):
        ratios, memories = [], []
        for found in peers.in_turns((1, cores), options.rounds, partial(measured, task)):
            ratios.append(found[cores]["speed"] / found[1]["speed"])
            memories.append(found[cores]["memory"] / found[1]["memory"])
            print(f"{task.name}, round {len(ratios)}: {ratios[-1]:.2f} times as fast", flush=True)
        note = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds, {cores} cores"
        name = f"{task.name}, {LANES} agents: a device for each core over one device"
        figures.append(Figure(f"{name}, speed", float(np.median(ratios)), "×", note=note))
        figures.append(Figure(f"{name}, memory", float(np.median(memories)), "×"))
    print(*figures, sep="\n")
    if options.record:
        print(record("Sweeps on the cores of a CPU", figures))


def measured(task: Task, devices: int) -> dict[str, Any]:
    """What the worker says of a sweep on so many devices of this CPU."""
    case = task.case(LANES, task.updates[LANES], spread=devices > 1)
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    return peers.in_process([sys.executable, str(WORKERS / "ours.py"), case])


if __name__ == "__main__":
    main()
