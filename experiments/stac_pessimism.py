"""STAC's pessimism beta leads it around a danger: RiskyPointMass-v0, five values of beta in one program.

    python experiments/stac_pessimism.py [--steps 50000] [--seeds 8] [--record]

Heat maps of 500 × 200 steps with sampled actions, their share of steps in the dangerous circle, and their returns.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

import rlzoo
from rlzoo import stac
from rlzoo.blocks import rollout
from rlzoo.envs.risky_point_mass import in_danger

BETAS = (0.0, 0.125, 0.25, 0.375, 0.5)
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=50_000)
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

env = rlzoo.envs.make("rlzoo/RiskyPointMass-v0")
algo = stac.make(env, *stac.presets["risky_point_mass"])
runs = rlzoo.sweep(algo, rlzoo.grid(algo.hyper, beta=BETAS))
keys = jax.random.split(jax.random.key(0), options.seeds)
state = rlzoo.run(runs, keys, rlzoo.updates_for(runs, options.steps), eval_episodes=16).state


def visited(actor, key):
    """The points [T, 2] of 500 environments, all their episodes one after another."""
    reset_key, key = jax.random.split(key)
    envs = rollout.init(env, reset_key, env.params, 500)
    act = lambda obs, key: (algo.policy(actor, obs, key), ())  # noqa: E731
    return rollout.collect(env, act, envs, key, env.params, env.horizon)[1].obs.reshape(-1, 2)


points = jax.jit(jax.vmap(jax.vmap(visited, (0, None)), (0, None)))(runs.actor(state), jax.random.key(1))
share = np.asarray(in_danger(points).mean(-1))  # [betas, seeds]
returns = rlzoo.evaluate(runs, env, state, jax.random.key(1), 500, deterministic=False).returns.mean(-1)
figure = Figure(figsize=(3.0 * len(BETAS), 3.2), layout="constrained", dpi=150)
for axes, beta, where in zip(figure.subplots(1, len(BETAS)), BETAS, np.asarray(points), strict=True):
    axes.hist2d(*where.reshape(-1, 2).T, bins=40, range=[[0, 1], [0, 1]], norm="log", cmap="viridis")
    axes.add_patch(Circle((0.5, 0.5), 0.3, fill=False, color="red"))
    axes.set(title=f"beta = {beta:g}", aspect="equal")
Path("runs").mkdir(exist_ok=True)
figure.savefig("runs/stac_pessimism.png")
both = (("return", returns), ("danger", share))
rows = {f"{what}, beta {beta:g}": x[i] for what, x in both for i, beta in enumerate(BETAS)}
rlzoo.report.table("STAC on RiskyPointMass-v0", rows)
if options.record:
    figures = [rlzoo.report.returns_figures(name, scores)[1] for name, scores in rows.items()]
    ratio = float(share[-1].mean() / share[0].mean())
    figures.append(rlzoo.report.Figure("danger at beta 0.5 over beta 0", ratio, "×", bar="<= 0.5"))
    rlzoo.report.record(f"STAC on RiskyPointMass-v0, {options.steps // 1000}k steps", figures)
