"""PPO solves Pendulum-v1 and MountainCarContinuous-v0 within 1M steps, and how its entropy bonus matters.

    python experiments/ppo_pendulum.py [--seeds 16] [--record]

One compiled program per task over 2 entropy coefficients times all seeds; prints deterministic returns. The claim is
made for the preset, which has no bonus; the other setting is shown beside it.
"""

import argparse

import jax
import numpy as np

import rlzoo
from rlzoo import ppo

TASKS = {"Pendulum-v1": ">= -160", "MountainCarContinuous-v0": ">= 85"}
STEPS = 1_000_000
ENTROPY_COEFS = [0.0, 0.01]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", type=int, default=16)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

for task, bar in TASKS.items():
    env = rlzoo.envs.make(f"gymnax/{task}")
    algo = ppo.make(env, *ppo.presets["classic"])
    runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, entropy_coef=ENTROPY_COEFS))
    keys = jax.random.split(jax.random.key(0), options.seeds)
    state, _ = rlzoo.train(runs, keys, rlzoo.updates_for(runs, STEPS))

    final = np.asarray(rlzoo.evaluate(runs, env, state, jax.random.key(1), 128).returns).mean(-1)  # [H, S]
    title = f"PPO on {task}, {STEPS // 1_000_000}M steps"
    rlzoo.report.table(title, {f"entropy_coef={c}": row for c, row in zip(ENTROPY_COEFS, final, strict=True)})
    if options.record:
        figures = rlzoo.report.returns_figures("deterministic return", final[0], bar)
        figures += rlzoo.report.returns_figures(f"with entropy_coef={ENTROPY_COEFS[1]}", final[1])
        rlzoo.report.record(title, figures)
