"""DQN on CartPole-v1 and Acrobot-v1 within 200k steps, PQN on CartPole-v1 within 500k: every one of 16 seeds counts.

    python experiments/dqn_cartpole.py [dqn_cartpole dqn_acrobot pqn_cartpole] [--seeds 16] [--record]

The presets' numbers, which were chosen on other keys. Returns are of greedy policies, 128 episodes a seed. Ten minutes
on two cores.
"""

import argparse

import jax
import numpy as np

import rlzoo
from rlzoo import dqn, pqn, report

TASKS = {  # algorithm, environment, steps, bar
    "dqn_cartpole": (dqn, "CartPole-v1", 200_000, ">= 475"),
    "dqn_acrobot": (dqn, "Acrobot-v1", 200_000, ">= -100"),
    "pqn_cartpole": (pqn, "CartPole-v1", 500_000, ">= 475"),
}
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("tasks", nargs="*", metavar="TASK", default=list(TASKS), help="default: all three")
parser.add_argument("--seeds", type=int, default=16)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
for task in options.tasks:
    module, name, steps, bar = TASKS[task]
    env = rlzoo.envs.make(f"gymnax/{name}")
    runs = rlzoo.sweep(module.make(env, *module.presets["classic"]))
    keys = jax.random.split(jax.random.key(0), options.seeds)
    num_updates = (steps - runs.warmup_steps) // runs.steps_per_update
    state, _ = rlzoo.train(runs, keys, num_updates)
    scores = np.asarray(rlzoo.evaluate(runs, env, state, jax.random.key(1), 128).returns)[0].mean(-1)
    title = f"{runs.name.upper()} on {name}, {steps // 1_000}k steps"
    report.table(title, {runs.name.upper(): scores})
    if options.record:
        report.record(title, report.returns_figures("deterministic return", scores, bar))
