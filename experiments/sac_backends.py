"""One task of brax on several backends, which are other physics: what SAC reaches on each, and how fast.

    python experiments/sac_backends.py [--task inverted_pendulum] [--backends generalized spring] [--seeds 4] [--record]

Two layers of 128, rates of 1e-3, 20,000 steps. A quarter of an hour a backend on two cores.
"""

import argparse
import time

import jax
import numpy as np

import rlzoo
from rlzoo import sac
from rlzoo.envs.brax import BACKENDS

STEPS, PARTS = 20_000, 19  # the first thousand are the warm-up

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--task", default="inverted_pendulum")
parser.add_argument("--backends", nargs="+", default=["generalized", "spring"], choices=BACKENDS)
parser.add_argument("--seeds", type=int, default=4)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

hyper = sac.Hyper(actor_learning_rate=1e-3, critic_learning_rate=1e-3, alpha_learning_rate=1e-3)
curves = {}
for backend in options.backends:
    env = rlzoo.envs.make(f"brax/{options.task}", backend=backend)
    runs = rlzoo.sweep(sac.make(env, sac.Config(hidden=(128, 128)), hyper))
    state = rlzoo.init(runs, jax.random.split(jax.random.key(0), options.seeds))
    updates, seconds, returns = rlzoo.updates_for(runs, STEPS) // PARTS, [], []
    for _ in range(PARTS):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(rlzoo.resume(runs, state, updates))
        seconds.append(time.perf_counter() - began)
        returns.append(np.asarray(rlzoo.evaluate(runs, env, state, jax.random.key(1), 16).returns)[0].mean(-1))  # [S]
        print(f"{backend}: {returns[-1].round(1)} after {1_000 + updates * len(returns):,} steps", flush=True)
    curves[backend] = 1_000 + updates * (1 + np.arange(PARTS)), np.array(returns)
    figures = rlzoo.report.returns_figures("deterministic return", returns[-1])
    pace = options.seeds * updates / np.median(seconds[1:])  # the first one compiles
    figures.append(rlzoo.report.Figure("steps per second, all seeds", pace, note=f"{options.seeds} seeds"))
    half = np.array(returns)[curves[backend][0] >= STEPS // 2][0]
    figures.append(rlzoo.report.Figure("deterministic return after half of the steps, mean", float(half.mean())))
    print(*figures, sep="\n", flush=True)
    if options.record:
        rlzoo.report.record(f"SAC on brax {options.task} ({backend}), {STEPS // 1_000}k steps", figures)
rlzoo.report.curves(f"runs/sac_backends_{options.task}.png", curves, title=f"SAC on brax {options.task}")
