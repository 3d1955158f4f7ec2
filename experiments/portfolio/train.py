"""Who wins when polluters are taxed: A2C and PPO on a market of one's own, swept over the tax in one program each.

    python experiments/portfolio/train.py [--steps 400000] [--seeds 8] [--record]

The environment is `market.py` beside this file. The tax is one of its parameters, so it is swept through `task`: five
taxes × eight seeds are forty agents. Each is then judged on the same episodes with no tax, which leaves the growth of
wealth, and with a tax of one, which adds the ESG score of what it held. Two minutes on two cores.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from market import Market

import rlzoo
from rlzoo import a2c, ppo

TAXES = (0.0, 0.001, 0.002, 0.004, 0.008)  # log-wealth per step and unit of ESG score

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=400_000)
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

env = rlzoo.envs.make(Market())
taxed = env.params.replace(tax=jnp.array(TAXES))
agents = {"A2C": a2c.make(env, *a2c.presets["classic"]), "PPO": ppo.make(env, *ppo.presets["classic"])}
keys = jax.random.split(jax.random.key(0), options.seeds)

for name, algo in agents.items():
    runs = rlzoo.sweep(algo, task=taxed)
    state, _ = rlzoo.train(runs, keys, rlzoo.updates_for(runs, options.steps))

    def judged(tax, runs=runs, state=state):
        """Mean return of each agent [H, S] under one tax for all."""
        task = env.params.replace(tax=jnp.float32(tax))
        return np.asarray(rlzoo.evaluate(runs, env, state, jax.random.key(1), 256, task=task).returns).mean(-1)

    growth = judged(0.0)  # log-wealth after a hundred steps
    esg = (judged(1.0) - growth) / env.horizon  # mean score of what was held, in [-1, 1]
    for what, scores in (("log-growth in %", 100.0 * growth), ("ESG score in %", 100.0 * esg)):
        title = f"{name} on the portfolio: {what}"
        rlzoo.report.table(title, {f"tax {tax:g}": x for tax, x in zip(TAXES, scores, strict=True)})
        picture = f"runs/portfolio_{name}_{what.split()[0]}.png".lower()
        rlzoo.report.sensitivity(picture, "tax", np.array(TAXES), scores, title=title, ylabel=what)
        if options.record:
            figures = [rlzoo.report.returns_figures(f"tax {tax:g}", x)[1] for tax, x in zip(TAXES, scores, strict=True)]
            rlzoo.report.record(title, figures)
