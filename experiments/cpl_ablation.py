"""CPL over its bias (lambda) and temperature (alpha): every combination times all seeds as one program.

    python experiments/cpl_ablation.py [--data data/pendulum-half] [--labels regret] [--updates 2000] [--record]

After cpl_preferences.py. Cloning knows neither number: it is trained once for every seed, and all settings branch off
it. Prints a table and draws a heat map. Ten minutes on two cores.
"""

import argparse
from dataclasses import replace

import jax
import numpy as np

import rlzoo
from rlzoo import cpl, report
from rlzoo.data import preferences

GRID = {"bias": [0.25, 0.5, 0.75, 0.9, 1.0], "alpha": [0.02, 0.1, 0.3, 0.5]}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="data/pendulum-half", help="without ending")
parser.add_argument("--labels", choices=["regret", "return"], default="regret")
parser.add_argument("--updates", type=int, default=2_000)
parser.add_argument("--seeds", type=int, default=4)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
pairs = preferences.load(f"{options.data}-{options.labels}.npz")
env = rlzoo.envs.make(pairs.about.env)
config, hyper = cpl.presets["pendulum" if "Pendulum" in env.name else "small"]
keys = jax.random.split(jax.random.key(1), options.seeds)
first = rlzoo.sweep(cpl.make(env, replace(config, phase="bc"), pairs, hyper))
cloned, _ = rlzoo.train(first, keys, options.updates // 2)

runs = rlzoo.sweep(cpl.make(env, config, pairs), rlzoo.grid(hyper, **GRID))
state, _ = rlzoo.resume(runs, cpl.begin(rlzoo.branch(cloned, runs.num_hypers), runs), options.updates // 2)
play = lambda runs, state: rlzoo.evaluate(runs, env, state, jax.random.key(2), 128, deterministic=False)  # noqa: E731
returns = np.asarray(play(runs, state).returns).mean(-1)  # [H, S]
rows = {f"bias {b:g}, alpha {a:g}": x for b, a, x in zip(runs.hyper.bias, runs.hyper.alpha, returns, strict=True)}
rows = {"cloning": np.asarray(play(first, cloned).returns)[0].mean(-1)} | rows
title = f"CPL over bias and alpha from {pairs.about.name} by {options.labels}, {options.updates:,} updates"
report.table(title, rows)
bias, alpha = GRID.items()
mean = returns.mean(-1).reshape(len(bias[1]), len(alpha[1]))
report.heatmap("runs/cpl_ablation.png", alpha, bias, mean, title=title)
if options.record:
    report.record(title, [report.returns_figures(name, x)[1] for name, x in rows.items()])
