"""PRDC and A2PR beside TD3+BC over the sets of a task: random, medium, medium-replay, medium-expert, expert.

    python experiments/make_datasets.py --env brax/hopper --rows 100000 --steps 1000000
    python benchmarks/papers/prdc.py [--name hopper] [--sets medium medium-replay] [--only td3_bc prdc] [--record]

What both papers claim of D4RL, on data of ours: 100,000 critic steps, 8 seeds, normalised scores, 0 the random policy's
and 100 the recording agent's, of 64 episodes. Bars: the mean over sets at or above TD3+BC's, seed by seed.

What is trained is kept under runs/ and goes on where it was cut off; figures are of all that have ended. On two cores
TD3+BC takes half an hour a set, PRDC an hour, A2PR five.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import numpy as np
from trained import device_a_core, gone_on, kept, mean

import rlzoo
from rlzoo import report
from rlzoo.drivers.named import preset_for

SETS, NAMES = ("random", "medium", "medium-replay", "medium-expert", "expert"), ("td3_bc", "prdc", "a2pr")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--name", default="hopper", help="of the data, before the set's")
parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
parser.add_argument("--only", nargs="*", choices=NAMES, default=NAMES, help="train these (default: all)")
parser.add_argument("--steps", type=int, default=100_000, help="of the critics")
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--directory", type=Path, default=Path("data"))
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
device_a_core(options.seeds)
home = Path(f"runs/offline_{options.name}_{options.steps}_steps_{options.seeds}_seeds")


def scores(name: str, quality: str) -> dict[str, np.ndarray]:
    """Of one algorithm on one set, [S]."""
    path = options.directory / f"{options.name}-{quality}.npz"
    dataset = rlzoo.data.load(path)
    env, module = rlzoo.envs.make(dataset.about.env), rlzoo.ALGORITHMS[name]
    config, hyper = module.presets[preset_for(env.name, module.presets, path.name)]
    runs = rlzoo.spread(rlzoo.sweep(module.make(env, config, dataset, hyper)))
    keys = jax.random.split(jax.random.key(0), options.seeds)
    run = gone_on(runs, keys, rlzoo.updates_for(runs, options.steps), home / f"{name} {quality}")
    returns = rlzoo.evaluate(runs, env, run.state, jax.random.key(1), 64).returns
    return {"score": np.asarray(rlzoo.data.normalised_score(dataset.about, returns))[0].mean(-1)}


for quality in options.sets:
    for name in options.only:
        kept(home / f"{name} {quality}.npz", partial(scores, name, quality))
found: dict[str, dict[str, np.ndarray]] = {}
for name in NAMES:
    for quality in options.sets:
        if (of := kept(home / f"{name} {quality}.npz")) is not None:
            found.setdefault(name, {})[quality] = of["score"]
figures = [mean(f"{name} on {quality}", x) for name, sets in found.items() for quality, x in sets.items()]
whole = {name: np.mean(list(sets.values()), axis=0) for name, sets in found.items() if len(sets) == len(options.sets)}
figures += [mean(f"{name}, mean over sets", x) for name, x in whole.items()]
for name in ("prdc", "a2pr"):
    if {"td3_bc", name} <= set(whole):
        difference = mean(f"{name} less TD3+BC, mean over sets", whole[name] - whole["td3_bc"])
        figures.append(difference._replace(bar=">= 0"))
print(*figures, sep="\n")
if options.record:
    sets = ", ".join(options.sets)
    print(report.record(f"PRDC and A2PR on {options.name}: {sets}, {options.steps // 1_000}k gradient steps", figures))
