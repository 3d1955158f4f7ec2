"""TD3 and DDPG on Pendulum-v1 within 20k steps, beside SAC: every one of 16 seeds counts.

    python experiments/td3_pendulum.py [--seeds 16] [--record]

The presets' numbers. Returns are of deterministic policies, 128 episodes a seed, the same for all. Half an hour on two
cores.
"""

import argparse

import jax
import numpy as np

import rlzoo
from rlzoo import report, sac, td3

STEPS = 20_000
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", type=int, default=16)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
env, scores = rlzoo.envs.make("gymnax/Pendulum-v1"), {}
for name, module, preset in (("TD3", td3, "classic"), ("DDPG", td3, "ddpg"), ("SAC", sac, "classic")):
    runs = rlzoo.sweep(module.make(env, *module.presets[preset]))
    keys = jax.random.split(jax.random.key(0), options.seeds)
    state, _ = rlzoo.train(runs, keys, rlzoo.updates_for(runs, STEPS))
    scores[name] = np.asarray(rlzoo.evaluate(runs, env, state, jax.random.key(1), 128).returns)[0].mean(-1)
title = f"TD3, DDPG and SAC on Pendulum-v1, {STEPS // 1_000}k steps"
report.table(title, scores)
if options.record:
    bars = {"TD3": ">= -170"}
    figures = [x for name, each in scores.items() for x in report.returns_figures(name, each, bars.get(name, ""))]
    report.record(title, figures)
