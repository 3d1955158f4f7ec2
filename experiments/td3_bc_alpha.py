"""How TD3+BC's return depends on alpha, its weight of the value: 7 settings times 8 seeds in one program.

    python experiments/td3_bc_alpha.py [--data tests/data/pendulum-medium.npz] [--steps 20000] [--record]

alpha = 0 clones the data; a large alpha trusts the critics where there are no data. Two minutes on two cores.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

import rlzoo
from rlzoo import td3_bc

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, default=Path("tests/data/pendulum-medium.npz"))
parser.add_argument("--env", default="gymnax/Pendulum-v1")
parser.add_argument("--steps", type=int, default=20_000, help="gradient steps of the critics")
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

alphas = (0.0, 0.5, 1.0, 2.5, 10.0, 40.0, 160.0)
env, dataset = rlzoo.envs.make(options.env), rlzoo.data.load(options.data)
algo = td3_bc.make(env, td3_bc.presets["pendulum"].config, dataset)
runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, alpha=alphas))
keys = jax.random.split(jax.random.key(0), options.seeds)
result = rlzoo.run(runs, keys, rlzoo.updates_for(runs, options.steps), eval_episodes=16)

returns = np.asarray(rlzoo.evaluate(runs, env, result.state, jax.random.key(1), 128).returns).mean(-1)  # [H, S]
scores = np.asarray(rlzoo.data.normalised_score(dataset.about, returns))
title = f"TD3+BC on {dataset.about.name}, {options.steps // 1_000}k gradient steps, normalised score"
labels = [f"alpha = {alpha:g}" for alpha in alphas]
rlzoo.report.table(title, dict(zip(labels, scores, strict=True)))
rlzoo.report.sensitivity("runs/td3_bc_alpha.png", "alpha", np.asarray(alphas), scores, title=title)
if options.record:
    figures = [rlzoo.report.returns_figures(label, each)[1] for label, each in zip(labels, scores, strict=True)]
    rlzoo.report.record(title, figures)
