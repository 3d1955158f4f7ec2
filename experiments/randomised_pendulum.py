"""Physics drawn anew for every episode: PPO on a Pendulum of random mass and length, beside the fixed one, on a grid.

    python experiments/randomised_pendulum.py [--steps 1000000] [--seeds 8] [--record]

Mass and length uniform from 0.5 to 1.5 in training; tried at 11 x 11 of both, the nominal 1 x 1 among them. The bar is
on the mean over the grid. Eight minutes on two cores.
"""

import argparse

import jax
import numpy as np

import rlzoo
from rlzoo import ppo, report

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=1_000_000)
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

plain = rlzoo.envs.make("gymnax/Pendulum-v1")
config, hyper = ppo.presets["classic"]
values = np.linspace(0.5, 1.5, 11)
grid = rlzoo.envs.vary(plain, {"m": values, "l": values})  # of which the 61st is the nominal one
keys, figures, cells = jax.random.split(jax.random.key(0), options.seeds), [], {}
for name, env in {
    "fixed": plain,
    "randomised": rlzoo.envs.randomised(plain, {"m": (0.5, 1.5), "l": (0.5, 1.5)}),
}.items():
    runs = rlzoo.sweep(ppo.make(env, config, hyper._replace(anneal_steps=float(options.steps))))
    state, _ = rlzoo.train(runs, keys, rlzoo.updates_for(runs, options.steps))
    returns = np.asarray(rlzoo.robustness(runs, plain, state, jax.random.key(1), 16, grid).returns)  # [121, 1, S, 16]
    cells[name] = returns[:, 0].mean(-1)  # [121, S]
    for what, scores in (
        ("grid", cells[name].mean(0)),
        ("nominal", cells[name][60]),
        ("worst", cells[name].min(0)),
    ):
        figures.append(report.returns_figures(f"{name}, {what}", scores)[1])
    report.heatmap(
        f"runs/pendulum_{name}.png",
        ("length", values),
        ("mass", values),
        cells[name].mean(-1).reshape(11, 11),
        title=name,
    )
gains = np.sort(cells["randomised"].mean(0) - cells["fixed"].mean(0))
point, low, high = map(float, report.paired(cells["fixed"].T, cells["randomised"].T, np.mean))
note = f"{point:.1f} ({low:.1f} to {high:.1f}), seed by seed {' '.join(f'{x:.0f}' for x in gains)}"
figures.append(report.Figure("gain on the grid, lower end", low, bar=">= 0", note=note))
print(*figures, sep="\n")
if options.record:
    report.record(f"PPO on a randomised Pendulum, {options.steps // 1_000_000}M steps", figures)
