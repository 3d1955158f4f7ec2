"""A device for each core of a CPU: how much faster sweeps are when each core trains lanes of its own.

    python benchmarks/cores.py [--rounds 5] [--record]

64 agents of PPO and of SAC, with the sizes of the table of speed, on one device, whose operations share the cores, and
spread over as many devices as there are cores. The two take turns, each measurement in a process of its own.
"""

import argparse
import json
import os
import sys

import numpy as np
import peers
from speed import LANES, TASKS, WORKERS

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
        for number in range(options.rounds):
            order = sorted((1, cores), reverse=number % 2 == 1)
            found = {devices: measured(task, devices) for devices in order}
            ratios.append(found[cores]["speed"] / found[1]["speed"])
            memories.append(found[cores]["memory"] / found[1]["memory"])
            print(f"{task.name}, round {number + 1}: {ratios[-1]:.2f} times as fast", flush=True)
        note = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds, {cores} cores"
        name = f"{task.name}, {LANES} agents: a device for each core over one device"
        figures.append(Figure(f"{name}, speed", float(np.median(ratios)), "×", note=note))
        figures.append(Figure(f"{name}, memory", float(np.median(memories)), "×"))
    print(*figures, sep="\n")
    if options.record:
        print(record("Sweeps on the cores of a CPU", figures))


def measured(task, devices: int) -> dict[str, float]:
    """What the worker says of a sweep on so many devices of this CPU."""
    case = {"algorithm": task.algorithm, "env": task.rlzoo, "env_options": task.env_options, "sizes": task.sizes}
    case |= {"lanes": LANES, "updates": task.updates[LANES], "spread": devices > 1}
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    return peers.in_process([sys.executable, str(WORKERS / "ours.py"), json.dumps(case)])


if __name__ == "__main__":
    main()
