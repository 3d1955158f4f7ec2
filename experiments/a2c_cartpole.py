"""A2C, A3C with 16 workers, and GA3C solve CartPole-v1 within 1M steps: every one of 16 seeds counts.

    python experiments/a2c_cartpole.py [--seeds 16] [--record]

Prints deterministic returns. Four minutes on two cores.
"""

import argparse

import jax
import numpy as np

import rlzoo

STEPS = 1_000_000
BARS = {"a2c": ">= 475", "a3c": ">= 475", "ga3c": ""}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", type=int, default=16)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

env = rlzoo.envs.make("gymnax/CartPole-v1")
keys = jax.random.split(jax.random.key(0), options.seeds)
for name, bar in BARS.items():
    module = rlzoo.ALGORITHMS[name]
    runs = rlzoo.sweep(module.make(env, *module.presets["classic"]))
    state, _ = rlzoo.train(runs, keys, rlzoo.updates_for(runs, STEPS))

    final = np.asarray(rlzoo.evaluate(runs, env, state, jax.random.key(1), 128).returns)[0].mean(-1)  # [S]
    title = f"{name.upper()} on CartPole-v1, {STEPS // 1_000_000}M steps"
    rlzoo.report.table(title, {name.upper(): final})
    if options.record:
        rlzoo.report.record(title, rlzoo.report.returns_figures("deterministic return", final, bar))
