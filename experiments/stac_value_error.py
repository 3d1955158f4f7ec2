"""STAC's overestimation falls as its pessimism beta rises: Pendulum-v1, five values of beta in one program.

    python experiments/stac_value_error.py [--steps 20000] [--seeds 8] [--record]

The value error is the mean over the last quarter of the run, as IQM over the seeds. Half an hour on two cores.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

import rlzoo
from rlzoo import stac
from rlzoo.report.statistics import interval

BETAS = (0.0, 0.125, 0.25, 0.375, 0.5)
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=20_000)
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

env = rlzoo.envs.make("gymnax/Pendulum-v1")
algo = stac.make(env, *stac.presets["classic"])
runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, beta=BETAS))
state = rlzoo.init(runs, jax.random.split(jax.random.key(0), options.seeds))
pieces = 20
errors = []
for _ in range(pieces):
    state, _ = rlzoo.resume(runs, state, rlzoo.updates_for(runs, options.steps) // pieces)
    errors.append(rlzoo.value_error(runs, env, state, jax.random.key(1), 16).mean(-1))
errors = np.stack(errors)  # [pieces, betas, seeds]
final = errors[-pieces // 4 :].mean(0)
returns = np.asarray(rlzoo.evaluate(runs, env, state, jax.random.key(1), 128).returns).mean(-1)

figure = Figure(figsize=(5.0, 4.0), layout="constrained", dpi=150)
axes = figure.subplots()
middle, low, high = np.array([interval(scores) for scores in final]).T
axes.errorbar(BETAS, middle, [middle - low, high - middle], marker="o", capsize=3)
axes.axhline(0.0, color="grey", linewidth=0.8)
axes.set(xlabel="pessimism beta", ylabel="value error", title="STAC on Pendulum-v1, IQM and 95% interval")
Path("runs").mkdir(exist_ok=True)
figure.savefig("runs/stac_value_error.png")
rows = {f"{what}, beta {b:g}": x[i] for what, x in (("error", final), ("return", returns)) for i, b in enumerate(BETAS)}
title = f"STAC's value error on Pendulum-v1, {options.steps // 1000}k steps"
rlzoo.report.table(title, rows)
if options.record:
    rlzoo.report.record(title, [rlzoo.report.returns_figures(name, scores)[1] for name, scores in rows.items()])
