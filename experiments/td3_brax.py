"""TD3, DDPG and SAC side by side on brax hopper and halfcheetah (brax's default backend), 100k steps.

    python experiments/td3_brax.py [halfcheetah hopper] [--only td3 ddpg sac] [--seeds 8] [--record]

Eight environments and as many updates a step for all, as their presets for brax have them. Returns are deterministic.
What is trained is kept under runs/, and goes on where it was cut off. Forty minutes an algorithm and task on two cores.
"""

import argparse

import jax
import numpy as np

import rlzoo
from rlzoo import report, sac, td3

STEPS, NAMES = 100_000, {"td3": (td3, "brax"), "ddpg": (td3, "ddpg_brax"), "sac": (sac, "brax")}
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("tasks", nargs="*", default=["halfcheetah", "hopper"], metavar="TASK", help="of brax")
parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
keys = jax.random.split(jax.random.key(0), options.seeds)
for task in options.tasks:
    env, scores, curves = rlzoo.envs.make(f"brax/{task}"), {}, {}
    for name in options.only:
        module, preset = NAMES[name]
        runs, folder = (
            rlzoo.sweep(module.make(env, *module.presets[preset])),
            f"runs/{name}_{task}_{options.seeds}_seeds",
        )
        num_updates = rlzoo.updates_for(runs, STEPS)
        settings = {"eval_episodes": 8, "report_every": num_updates // 10, "sinks": ("csv",), "keep": 1}
        run = rlzoo.run(runs, keys, num_updates, directory=folder, resume=True, **settings)
        if run.interrupted:
            raise SystemExit(f"{folder} was cut off; the same command goes on with it")
        at, curve = report.series(f"{folder}/log.csv", "eval/return")  # [K], [K, 1, S]
        curves[name.upper()] = at, curve[:, 0]
        returns = rlzoo.evaluate(runs, env, run.state, jax.random.key(1), 64).returns
        scores[name.upper()] = np.asarray(returns)[0].mean(-1)  # [S]
    title = f"{', '.join(scores)} on brax {task} (generalized), {STEPS // 1_000}k steps"
    report.curves(f"runs/td3_{task}.png", curves, title=title)
    report.table(title, scores)
    if options.record:
        report.record(title, [x for name, each in scores.items() for x in report.returns_figures(name, each)])
