"""SAC and STAC swing up Pendulum-v1 within 20k steps: every one of 16 seeds counts.

    python experiments/sac_pendulum.py [--seeds 16] [--record]

Prints deterministic returns and draws the curves. Half an hour on two cores.
"""

import argparse

import jax
import numpy as np

import rlzoo

STEPS = 20_000

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", type=int, default=16)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

env = rlzoo.envs.make("gymnax/Pendulum-v1")
keys = jax.random.split(jax.random.key(0), options.seeds)
curves = {}
for name in ("sac", "stac"):
    module = rlzoo.ALGORITHMS[name]
    runs = rlzoo.sweep(module.make(env, *module.presets["classic"]))
    result = rlzoo.run(runs, keys, rlzoo.updates_for(runs, STEPS), eval_episodes=16)

    curves[name.upper()] = result.env_steps, result.returns[:, 0].mean(-1)  # [K, S]
    final = np.asarray(rlzoo.evaluate(runs, env, result.state, jax.random.key(1), 128).returns)[0].mean(-1)  # [S]
    title = f"{name.upper()} on Pendulum-v1, {STEPS // 1_000}k steps"
    rlzoo.report.table(title, {name.upper(): final})
    if options.record:
        rlzoo.report.record(title, rlzoo.report.returns_figures("deterministic return", final, ">= -170"))
rlzoo.report.curves("runs/sac_pendulum.png", curves, title="Pendulum-v1")
