"""Old promises: the speed, compile time and memory of PPO and SAC beside those of an earlier revision.

    python benchmarks/before.py REVISION [--rounds 6] [--only "PPO CartPole"] [--record]

The two take turns, each measurement in a process of its own, first the one and then the other first; ratios are taken
round by round, and their medians and extremes given. The earlier revision is a worktree in a temporary directory,
measured by the present worker with the present packages, so that nothing but the library differs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import peers
from speed import LANES, TASKS, WORKERS, Task

from rlzoo.report.record import Figure, record

LEAST = 0.98  # of the speed before
CASES = {task.name: task for task in TASKS if task.name in ("PPO CartPole", "SAC Pendulum")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", help="of the library before, such as a commit")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="these tasks (default: both)")
    parser.add_argument("--scale", type=int, default=2, help="times as many updates in a repeat as the table of speed")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        before = Path(directory) / "before"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", before, options.revision], check=True)
        try:
            figures = [figure for name in options.only for figure in ratios(CASES[name], before, options)]
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", before], check=True)
    if options.record:
        print(record(f"Beside revision {options.revision}", figures))


def ratios(task: Task, before: Path, options: argparse.Namespace) -> list[Figure]:
    """Now over before, of a task with one agent and with many."""
    figures, now = [], Path.cwd()
    for lanes in (1, LANES):
        rounds = []
        for found in peers.in_turns((before, now), options.rounds, partial(measured, task, lanes, options.scale)):
            rounds.append({what: found[now][what] / found[before][what] for what in ("speed", "compile", "memory")})
            print(f"{task.name}, {lanes} agents, round {len(rounds)}: {rounds[-1]}", flush=True)
        for what in rounds[0]:
            each = [one[what] for one in rounds]
            bar = f">= {LEAST}" if what == "speed" else ""
            note = f"{min(each):.3f} to {max(each):.3f} in {len(each)} rounds"
            name = f"{task.name}, {lanes} agent{'s' * (lanes > 1)}: {what} now over before"
            figures.append(Figure(name, float(np.median(each)), bar=bar, note=note))
            print(figures[-1], flush=True)
    return figures


def measured(task: Task, lanes: int, scale: int, root: Path) -> dict[str, Any]:
    """What the worker says of the library at a root."""
    os.environ["PYTHONPATH"] = str(root)  # before the installed one, which is this directory's
    found = peers.in_process([sys.executable, str(WORKERS / "ours.py"), task.case(lanes, task.updates[lanes] * scale)])
    assert Path(found["rlzoo"]).is_relative_to(root.resolve()), f"measured {found['rlzoo']}, which is not in {root}"
    return found


if __name__ == "__main__":
    main()
