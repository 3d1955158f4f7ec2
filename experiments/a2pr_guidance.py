"""What guides A2PR's policy: how often the VAE's action is the better one, how often it has an advantage, and the
return over the weight of the regularisation: 5 settings times 8 seeds in one program.

    python experiments/a2pr_guidance.py [--data tests/data/pendulum-medium-replay.npz] [--steps 20000] [--record]

Five minutes on two cores.
"""

import argparse
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import rlzoo
from rlzoo import a2pr

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, default=Path("tests/data/pendulum-medium-replay.npz"))
parser.add_argument("--env", default="gymnax/Pendulum-v1")
parser.add_argument("--steps", type=int, default=20_000, help="gradient steps of the critics")
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

weights = (0.0, 0.1, 0.4, 1.0, 4.0)
env, dataset = rlzoo.envs.make(options.env), rlzoo.data.load(options.data)
algo = a2pr.make(env, a2pr.presets["pendulum"].config, dataset)
runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, mask_weight=weights))
keys = jax.random.split(jax.random.key(0), options.seeds)
state, metrics = rlzoo.train(runs, keys, rlzoo.updates_for(runs, options.steps))

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
for axis, name in zip(axes, ("policy/vae_share", "policy/guided"), strict=True):
    shares = np.asarray(metrics[name]).mean(-1)  # [U, H], over seeds
    smooth = shares[: len(shares) // 100 * 100].reshape(-1, 100, len(weights)).mean(1)
    for curve, weight in zip(smooth.T, weights, strict=True):
        axis.plot(200 * np.arange(len(smooth)), curve, label=f"weight {weight:g}")
    axis.set(title=name, xlabel="gradient steps", ylim=(0, 1))
axes[0].legend()
Path("runs").mkdir(exist_ok=True)
figure.savefig("runs/a2pr_guidance.png", dpi=150)

returns = np.asarray(rlzoo.evaluate(runs, env, state, jax.random.key(1), 128).returns).mean(-1)  # [H, S]
scores = np.asarray(rlzoo.data.normalised_score(dataset.about, returns))
title = f"A2PR on {dataset.about.name}, {options.steps // 1_000}k gradient steps, normalised score"
labels = [f"mask_weight = {weight:g}" for weight in weights]
rlzoo.report.table(title, dict(zip(labels, scores, strict=True)))
if options.record:
    figures = [rlzoo.report.returns_figures(label, each)[1] for label, each in zip(labels, scores, strict=True)]
    rlzoo.report.record(title, figures)
