"""SAC on brax within 100k steps: inverted_double_pendulum and halfcheetah on the spring backend.

    python experiments/sac_brax.py [--tasks inverted_double_pendulum halfcheetah] [--seeds 8] [--record]

Prints deterministic returns and draws the curves. An hour a task on two cores.
"""

import argparse
import os

import jax
import numpy as np

import rlzoo
from rlzoo import sac

STEPS = 100_000

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--tasks", nargs="+", default=["inverted_double_pendulum", "halfcheetah"])
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

keys = jax.random.split(jax.random.key(0), options.seeds)
for task in options.tasks:
    env = rlzoo.envs.make(f"brax/{task}", backend="spring")
    runs = rlzoo.sweep(sac.make(env, *sac.presets["brax"]))
    folder = f"runs/sac_{task}_{options.seeds}_seeds"  # a run that was cut short goes on where it was
    result = rlzoo.run(
        runs,
        keys,
        rlzoo.updates_for(runs, STEPS),
        directory=folder,
        resume=os.path.exists(f"{folder}/checkpoints"),
        report_every=2_300,
        eval_episodes=8,
        sinks=("csv",),
    )

    at, curve = rlzoo.report.series(f"{folder}/log.csv", "eval/return")  # [K], [K, 1, S]
    final = np.asarray(rlzoo.evaluate(runs, env, result.state, jax.random.key(1), 64).returns)[0].mean(-1)  # [S]
    title = f"SAC on brax {task} (spring), {STEPS // 1_000}k steps"
    rlzoo.report.curves(f"runs/sac_{task}.png", {"SAC": (at, curve[:, 0])}, title=title)
    rlzoo.report.table(title, {"SAC": final})
    if options.record:
        rlzoo.report.record(title, rlzoo.report.returns_figures("deterministic return", final))
