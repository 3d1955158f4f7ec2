"""The score of a toy dataset, learned and exact: arrows towards the data, at three noise levels.

    python experiments/cdsa_score_field.py [--updates 5000] [--record]

The state is a number, the action another: they lie on a ring. The exact score is the empirical one, of all rows. Half a
minute on two cores; the picture is runs/cdsa_score_field.png.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import rlzoo
from rlzoo import cdsa
from rlzoo.types import Box, Env

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--updates", type=int, default=5_000)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
angle_key, width_key = jax.random.split(jax.random.key(0))
angle, radius = 2 * np.pi * jax.random.uniform(angle_key, (5_000,)), 0.7 + 0.04 * jax.random.normal(width_key, (5_000,))
obs, action = (radius * jnp.cos(angle))[:, None], (radius * jnp.sin(angle))[:, None]
line, box = (Box(np.full(1, -x, np.float32), np.full(1, x, np.float32)) for x in (np.inf, 1.0))
env = Env("toy/ring", None, None, None, line, box, 1)  # only its spaces are used
none = jnp.zeros(len(obs), bool)
dataset = rlzoo.data.Dataset(obs, action, jnp.zeros(len(obs)), obs, none, none)
learned = cdsa.fit(env, dataset, cdsa.presets["pendulum"].config, num_updates=options.updates)
exact = cdsa.fit(env, dataset, replace(learned.config, score="empirical"), num_updates=1)

axis = jnp.linspace(-1.0, 1.0, 21)
points = jnp.stack(jnp.meshgrid(axis / learned.models.moments.std[0], axis), axis=-1).reshape(-1, 2)
figure, figures = Figure(figsize=(10, 7), layout="constrained", dpi=150), []
for axes, sigma in zip(figure.subplots(2, 3).T, (0.1, 0.2, 0.5), strict=True):
    fields = [sigma**2 * np.asarray(cdsa.score(models, points, sigma)) for models in (exact, learned)]
    for ax, field, name in zip(axes, fields, ("exact", "learned"), strict=True):
        ax.plot(*cdsa.joint(learned, obs[:1_000], action[:1_000]).T, ".", color="#999999", markersize=1)
        ax.quiver(*points.T, *field.T, angles="xy", scale_units="xy", scale=2.0, width=0.003)
        ax.set(title=f"{name}, sigma = {sigma:g}", xlabel="state, normalised", ylabel="action")
    error = float(np.linalg.norm(fields[1] - fields[0], axis=1).mean() / np.linalg.norm(fields[0], axis=1).mean())
    figures.append(
        rlzoo.report.Figure(f"error of the learned score at sigma = {sigma:g}, over the exact one's size", error)
    )
Path("runs").mkdir(exist_ok=True)
figure.savefig("runs/cdsa_score_field.png")
print(*figures, sep="\n")
if options.record:
    rlzoo.report.record("CDSA's score of a toy ring", figures)
