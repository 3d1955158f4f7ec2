"""How much staleness does A3C bear? Return and stability on CartPole over the number of workers, in one figure.

    python experiments/a3c_staleness.py [--steps 320000] [--seeds 8] [--record]

A worker's gradient is W - 1 updates old under the round-robin schedule. Under the random one, where half of the
workers are eight times slower, the mean age is the same and the oldest gradients are far older. Stability is the
standard deviation of an agent's return over its last five evaluations. Ten minutes on two cores.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import rlzoo
from rlzoo import a3c

WORKERS, RATES = (2, 4, 8, 16, 32), (7e-4, 4e-3)
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=320_000)
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

env = rlzoo.envs.make("gymnax/CartPole-v1")
keys = jax.random.split(jax.random.key(0), options.seeds)
final, spread = {}, {}  # (schedule, W) -> [rates, seeds]
for workers in WORKERS:
    for schedule, speeds in (("round-robin", ()), ("random", (8.0, 1.0) * (workers // 2))):
        algo = a3c.make(env, a3c.Config(num_workers=workers, schedule=schedule, speeds=speeds))
        runs = rlzoo.sweep(algo, algo.hyper._replace(learning_rate=jnp.array(RATES)))
        state, returns, ages = rlzoo.init(runs, keys), [], []
        for _ in range(10):
            state, metrics = rlzoo.resume(runs, state, rlzoo.updates_for(runs, options.steps // 10))
            ages.append(metrics["worker/staleness_max"].max())
            returns.append(rlzoo.evaluate(runs, env, state, jax.random.key(1), 32).returns.mean(-1))
        case = schedule, workers
        final[case], spread[case] = np.mean(returns[-5:], axis=0), np.std(returns[-5:], axis=0)
        print(f"{schedule}, W = {workers}: oldest gradient {int(max(ages))} updates, return {final[case].mean(1)}")

figure = Figure(figsize=(9.0, 4.0), layout="constrained", dpi=150)
for axes, scores, label in zip(figure.subplots(1, 2), (final, spread), ("return", "instability"), strict=True):
    for schedule, line in (("round-robin", "-"), ("random", "--")):
        for i, rate in enumerate(RATES):
            means = [scores[schedule, workers][i].mean() for workers in WORKERS]
            axes.plot(WORKERS, means, f"C{i}{line}", marker="o", label=f"{schedule}, rate {rate:g}")
    axes.set(xscale="log", xticks=WORKERS, xticklabels=WORKERS, xlabel="workers W (mean staleness W - 1)")
    axes.minorticks_off()
    axes.set_title(f"{label} over the last five evaluations")
axes.legend(fontsize=8)
Path("runs").mkdir(exist_ok=True)
figure.savefig("runs/a3c_staleness.png")
title = f"A3C on CartPole-v1 over staleness, {options.steps:,} steps"
rows = {f"{s}, W {w}, rate {RATES[i]:g}": final[s, w][i] for i in range(len(RATES)) for s, w in sorted(final)}
rlzoo.report.table(title, rows)
if options.record:
    rlzoo.report.record(title, [rlzoo.report.returns_figures(label, x)[1] for label, x in rows.items()])
