"""PPO on brax, physics backend spring: inverted_pendulum within 1M steps, halfcheetah within 5M.

    python experiments/ppo_brax_halfcheetah.py [inverted_pendulum|halfcheetah] [--seeds 8] [--record]

Prints the deterministic returns over all seeds and draws the curves. On two cores halfcheetah takes about seven
minutes a seed, inverted_pendulum one.
"""

import argparse
import os

import jax
import numpy as np

import rlzoo
from rlzoo import ppo

TASKS = {"inverted_pendulum": (1_000_000, ">= 990"), "halfcheetah": (5_000_000, "")}  # budget, bar

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("task", choices=TASKS, nargs="?", default="halfcheetah")
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

steps, bar = TASKS[options.task]
env = rlzoo.envs.make(f"brax/{options.task}", backend="spring")
runs = rlzoo.sweep(ppo.make(env, *ppo.presets["brax"]))
keys = jax.random.split(jax.random.key(0), options.seeds)
folder = f"runs/ppo_{options.task}_{options.seeds}_seeds"  # a run that was cut short goes on where it was
started = os.path.exists(f"{folder}/checkpoints")
result = rlzoo.run(
    runs,
    keys,
    rlzoo.updates_for(runs, steps),
    directory=folder,
    resume=started,
    eval_episodes=8,
    sinks=("csv",),
)

at, curve = rlzoo.report.series(f"{folder}/log.csv", "eval/return")  # [K], [K, 1, S]
final = np.asarray(rlzoo.evaluate(runs, env, result.state, jax.random.key(1), 64).returns)[0].mean(-1)  # [S]
title = f"PPO on brax {options.task} (spring), {steps // 1_000_000}M steps"
rlzoo.report.curves(f"runs/ppo_brax_{options.task}.png", {"PPO": (at, curve[:, 0])}, title=title)
rlzoo.report.table(title, {"PPO": final})
if options.record:
    rlzoo.report.record(title, rlzoo.report.returns_figures("deterministic return", final, bar))
