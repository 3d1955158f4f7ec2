"""SAC climbs MountainCarContinuous-v0 within 50k steps: every one of 16 seeds counts.

    python experiments/sac_mountain_car.py [--seeds 16] [--record]

Single random actions never reach the flag: those of the warm-up are held for 50 steps. Eight minutes on one core.
"""

import argparse

import jax
import numpy as np

import rlzoo
from rlzoo import sac

STEPS = 50_000

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", type=int, default=16)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

env = rlzoo.envs.make("gymnax/MountainCarContinuous-v0")
config = sac.Config(num_envs=10, num_updates=10, hidden=(64, 64), warmup=10_000, warmup_hold=50)
rates = {"actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3, "alpha_learning_rate": 1e-3}
runs = rlzoo.sweep(sac.make(env, config, sac.Hyper(**rates, tau=0.01)))
keys = jax.random.split(jax.random.key(0), options.seeds)
result = rlzoo.run(runs, keys, rlzoo.updates_for(runs, STEPS), eval_episodes=16)

curve = result.returns[:, 0].mean(-1)  # [K, S]
final = np.asarray(rlzoo.evaluate(runs, env, result.state, jax.random.key(1), 128).returns)[0].mean(-1)  # [S]
title = f"SAC on MountainCarContinuous-v0, {STEPS // 1_000}k steps"
rlzoo.report.curves("runs/sac_mountain_car.png", {"SAC": (result.env_steps, curve)}, title=title)
rlzoo.report.table(title, {"SAC": final})
if options.record:
    rlzoo.report.record(title, rlzoo.report.returns_figures("deterministic return", final, ">= 90"))
