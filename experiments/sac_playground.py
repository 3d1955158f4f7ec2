"""SAC on MuJoCo Playground: CartpoleBalance and CheetahRun, of a thousand steps an episode, within 50k steps.

    python experiments/sac_playground.py [CartpoleBalance CheetahRun] [--seeds 4] [--record]

Returns are deterministic, 64 episodes a seed, beside those before training; at most 1000. Half an hour a task on two
cores. What is trained is kept under runs/, and goes on where it was cut short.
"""

import argparse
import os

import jax
import numpy as np

import rlzoo
from rlzoo import report, sac

STEPS = 50_000
TASKS = ("CartpoleBalance", "CheetahRun")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("tasks", nargs="*", metavar="TASK", default=TASKS, help="of playground; default: both")
parser.add_argument("--seeds", type=int, default=4)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
config, hyper = sac.presets["brax"]
for task in options.tasks:
    env = rlzoo.envs.make(f"playground/{task}", cached_reset=True)
    runs = rlzoo.sweep(sac.make(env, config, hyper))
    keys = jax.random.split(jax.random.key(0), options.seeds)
    folder = f"runs/sac_{task}_{options.seeds}_seeds"
    scores = lambda state: np.asarray(  # noqa: E731
        rlzoo.evaluate(runs, env, state, jax.random.key(1), 64).returns  # noqa: B023
    )[0].mean(-1)
    before = scores(rlzoo.init(runs, keys, quiet=True))
    found = rlzoo.run(
        runs,
        keys,
        rlzoo.updates_for(runs, STEPS),
        directory=folder,
        resume=os.path.exists(f"{folder}/checkpoints"),
        eval_episodes=0,
    )
    after = scores(found.state)
    print(task, before.round(1), after.round(1), flush=True)
    if options.record:
        figures = report.returns_figures("deterministic return", after)
        figures.append(report.Figure("return before training, mean", float(before.mean())))
        report.record(f"SAC on {env.name}, {STEPS // 1_000}k steps", figures)
