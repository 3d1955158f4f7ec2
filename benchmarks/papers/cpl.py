"""Does CPL beat SFT on other data too? Several datasets with several seeds each, by regret, by return, and dense.

    for seed in 1 2 3 4 5; do python experiments/cpl_preferences.py --env gymnax/Pendulum-v1 --seed $seed; done
    python benchmarks/papers/cpl.py [--name pendulum-half] [--datasets 1 2 3 4 5] [--updates 4000] [--record]

Every dataset has an oracle, a behaviour and segments of its own; scores are 0 for its behaviour and 100 for its oracle.
Intervals are over datasets first, see `rlzoo.report.hierarchical`. Dense are comparisons by regret between segments
drawn anew in every batch, as the authors' dense data from states have them; P-IQL has none of these. Bar: the interval
of CPL above that of SFT. What is trained is kept under runs/.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
from trained import kept, mean

import rlzoo
from rlzoo import cpl, p_iql, report
from rlzoo.data import preferences

LABELS = {"regret": ("regret", "given"), "return": ("return", "given"), "dense": ("regret", "random")}
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--name", default="pendulum-half", help="of the data, without seed and ending")
parser.add_argument("--datasets", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="their seeds")
parser.add_argument("--labels", nargs="+", choices=LABELS, default=list(LABELS))
parser.add_argument("--updates", type=int, default=4_000, help="half of CPL's and SFT's are cloning")
parser.add_argument("--seeds", type=int, default=4, help="on each dataset")
parser.add_argument("--episodes", type=int, default=128)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
keys = jax.random.split(jax.random.key(1), options.seeds)
home = Path(f"runs/cpl_{options.name}_{options.seeds}_seeds_{options.updates}_updates")


def scores(number: int, labels: str) -> dict[str, np.ndarray]:
    """Of each algorithm the scores [S] that it reaches on one dataset."""
    file, comparisons = LABELS[labels]
    dataset = rlzoo.data.load(f"data/{options.name}-{number}.npz")
    pairs = preferences.load(f"data/{options.name}-{number}-{file}.npz")
    env = rlzoo.envs.make(dataset.about.env)
    config, hyper = cpl.presets["pendulum" if "Pendulum" in env.name else "small"]
    config = replace(config, comparisons=comparisons)

    def phase(**changes):
        return rlzoo.sweep(cpl.make(env, replace(config, **changes), pairs, hyper))

    cloned, _ = rlzoo.train(phase(phase="bc"), keys, options.updates // 2)
    second = {"CPL": phase(), "SFT": phase(phase="bc", bc_on="preferred")}
    trained = {x: (y, rlzoo.resume(y, cpl.begin(cloned, y), options.updates // 2)[0]) for x, y in second.items()}
    if comparisons == "given":  # the only ones that P-IQL has
        form, rates = p_iql.presets["small"]
        rates = rates._replace(reward_steps=options.updates / 2, anneal_steps=options.updates)
        runs = rlzoo.sweep(p_iql.make(env, form, pairs, rates))
        trained["P-IQL"] = runs, rlzoo.train(runs, keys, options.updates)[0]

    low, high = float(dataset.episode_returns().mean()), dataset.about.expert_score
    found = {}
    for name, (algo, state) in trained.items():  # sampled, as the data were
        episodes = rlzoo.evaluate(algo, env, state, jax.random.key(2), options.episodes, deterministic=False)
        found[name] = 100.0 * (np.asarray(episodes.returns)[0].mean(-1) - low) / (high - low)
        print(f"{labels}, dataset {number}, {name}: {found[name].round(1)}", flush=True)
    return found


figures = []
for labels in options.labels:
    each = [kept(home / f"{labels}_{number}.npz", partial(scores, number, labels)) for number in options.datasets]
    of = {name: np.stack([one[name] for one in each]) for name in each[0]}  # [G, S]
    notes = {name: "datasets: " + " ".join(f"{x:.0f}" for x in x.mean(1)) for name, x in of.items()}
    found = {name: mean(f"{labels}, {name}", x, notes[name]) for name, x in of.items()}
    apart = found["CPL"].low - found["SFT"].high
    figures += [*found.values(), report.Figure(f"{labels}, CPL's lower end less SFT's upper end", apart, bar=">= 0")]
    figures.append(mean(f"{labels}, CPL less SFT, dataset by dataset", of["CPL"] - of["SFT"], f"{len(each)} datasets"))
print(*figures, sep="\n")
if options.record:
    size = f"{len(options.datasets)} datasets x {options.seeds} seeds, {options.updates:,} updates"
    print(report.record(f"CPL over datasets of {options.name}, {size}", figures))
