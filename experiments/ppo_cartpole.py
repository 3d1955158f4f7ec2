"""PPO solves CartPole-v1 and Acrobot-v1 within 500k steps: every one of 16 seeds counts.

    python experiments/ppo_cartpole.py [--seeds 16] [--record]

All seeds train in one compiled program, a minute or two on two cores. Prints deterministic returns over all seeds.
"""

import argparse

import jax
import numpy as np

import rlzoo
from rlzoo import ppo

TASKS = {"CartPole-v1": ">= 495", "Acrobot-v1": ">= -85"}
STEPS = 500_000

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
    title = f"PPO on {task}, {STEPS // 1000}k steps"
    rlzoo.report.table(title, {"PPO": final})
    if options.record:
        rlzoo.report.record(title, rlzoo.report.returns_figures("deterministic return", final, bar))
