"""PPO solves Pendulum-v1 and MountainCarContinuous-v0 within 1M steps: every one of 16 seeds counts.

    python experiments/ppo_pendulum.py [--seeds 16] [--record]

The same preset as for CartPole and Acrobot. Four minutes a task on two cores; prints deterministic returns.
"""

import argparse

import jax
import numpy as np

import rlzoo
from rlzoo import ppo

TASKS = {"Pendulum-v1": ">= -160", "MountainCarContinuous-v0": ">= 85"}
STEPS = 1_000_000

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", type=int, default=16)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

for task, bar in TASKS.items():
    env = rlzoo.envs.make(f"gymnax/{task}")
    runs = rlzoo.sweep(ppo.make(env, *ppo.presets["classic"]))
    keys = jax.random.split(jax.random.key(0), options.seeds)
    state, _ = rlzoo.train(runs, keys, rlzoo.updates_for(runs, STEPS))

    final = np.asarray(rlzoo.evaluate(runs, env, state, jax.random.key(1), 128).returns)[0].mean(-1)  # [S]
    title = f"PPO on {task}, {STEPS // 1_000_000}M steps"
    rlzoo.report.table(title, {"PPO": final})
    if options.record:
        rlzoo.report.record(title, rlzoo.report.returns_figures("deterministic return", final, bar))
