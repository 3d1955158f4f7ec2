"""MixedNE-LD on Pendulum-v1: robust to disturbed actions, with both players' policies sampled by Langevin dynamics.

    python experiments/mixed_ne_pendulum.py [--steps 99990] [--seeds 8] [--record]

Prints deterministic returns, without disturbance and over a grid of masses and lengths, and draws the curve.
"""

import argparse

import jax
import numpy as np

import rlzoo
from rlzoo import mixed_ne

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=99_990)
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

env = rlzoo.envs.make("gymnax/Pendulum-v1")
runs = rlzoo.sweep(mixed_ne.make(env, *mixed_ne.presets["pendulum"]))
keys = jax.random.split(jax.random.key(0), options.seeds)
result = rlzoo.run(runs, keys, rlzoo.updates_for(runs, options.steps), eval_episodes=16)

title = f"MixedNE-LD on Pendulum-v1, {options.steps / 1e3:.0f}k steps"
curve = result.env_steps, result.returns[:, 0].mean(-1)  # [K, S]
rlzoo.report.curves("runs/mixed_ne_pendulum.png", {"MixedNE-LD": curve}, title=title)
final = np.asarray(rlzoo.evaluate(runs, env, result.state, jax.random.key(1), 128).returns)[0].mean(-1)  # [S]
scale = np.linspace(0.5, 1.5, 11)
grid = rlzoo.envs.vary(env, {"m": scale, "l": scale})
robust = rlzoo.robustness(runs, env, result.state, jax.random.key(2), 16, grid).returns  # [121, 1, S, 16]
scores = {"deterministic return": final, "grid of masses and lengths": np.asarray(robust)[:, 0].mean((0, -1))}
rlzoo.report.table(title, scores)
if options.record:
    figures = [figure for name, x in scores.items() for figure in rlzoo.report.returns_figures(name, x)]
    rlzoo.report.record(title, figures)
