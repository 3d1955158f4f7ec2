"""PPO on Breakout-MinAtar: a small CNN on 10 × 10 pixels clears bricks for tens of points.

    python experiments/ppo_minatar_breakout.py [--steps 1000000] [--seeds 8] [--record]

Prints the deterministic returns over all seeds and draws the curve. Published peers report 28 to 40 after 10M steps.
"""

import argparse

import jax
import numpy as np

import rlzoo
from rlzoo import ppo

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=1_000_000)
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

env = rlzoo.envs.make("gymnax/Breakout-MinAtar")
runs = rlzoo.sweep(ppo.make(env, *ppo.presets["minatar"]))
keys = jax.random.split(jax.random.key(0), options.seeds)
result = rlzoo.run(runs, keys, rlzoo.updates_for(runs, options.steps), eval_episodes=16)

curve = result.returns[:, 0].mean(-1)  # [K, S]
final = np.asarray(rlzoo.evaluate(runs, env, result.state, jax.random.key(1), 64).returns)[0].mean(-1)  # [S]
title = f"PPO on Breakout-MinAtar, {options.steps / 1e6:g}M steps"
rlzoo.report.curves("runs/ppo_minatar_breakout.png", {"PPO": (result.env_steps, curve)}, title=title)
rlzoo.report.table(title, {"PPO": final})
if options.record:
    rlzoo.report.record(title, rlzoo.report.returns_figures("deterministic return", final))
