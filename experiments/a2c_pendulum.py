"""A2C swings up Pendulum-v1 within 2M steps: every one of 16 seeds counts.

    python experiments/a2c_pendulum.py [--seeds 16] [--record]

The same preset as for CartPole. Two minutes on two cores; prints deterministic returns and draws the curve.
"""

import argparse

import jax
import numpy as np

import rlzoo
from rlzoo import a2c

STEPS = 2_000_000

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", type=int, default=16)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

env = rlzoo.envs.make("gymnax/Pendulum-v1")
runs = rlzoo.sweep(a2c.make(env, *a2c.presets["classic"]))
keys = jax.random.split(jax.random.key(0), options.seeds)
result = rlzoo.run(runs, keys, rlzoo.updates_for(runs, STEPS), eval_episodes=16)

curve = result.returns[:, 0].mean(-1)  # [K, S]
final = np.asarray(rlzoo.evaluate(runs, env, result.state, jax.random.key(1), 128).returns)[0].mean(-1)  # [S]
title = f"A2C on Pendulum-v1, {STEPS // 1_000_000}M steps"
rlzoo.report.curves("runs/a2c_pendulum.png", {"A2C": (result.env_steps, curve)}, title=title)
rlzoo.report.table(title, {"A2C": final})
if options.record:
    rlzoo.report.record(title, rlzoo.report.returns_figures("deterministic return", final, ">= -400"))
