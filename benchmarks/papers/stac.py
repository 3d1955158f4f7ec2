"""STAC beside SAC, DSAC and ESTAC on brax: returns, overestimation, and what an update costs.

    python benchmarks/papers/stac.py [--task hopper] [--only STAC SAC] [--seeds 8] [--record]

What the abstract of arXiv:2601.00737 claims of one critic: no less return than two, less overestimation, in less time.
brax's own default backend, 100,000 steps; sizes, rates, LayerNorm, first temperature, environments and updates are the
same for all four; SAC's temperature is stepped by Adam. Returns are of the policies' means, value errors of sampled
actions, the mean of eight evaluations over the last quarter. Bars: 95% intervals of STAC less SAC, seed by seed; and of
their times, physics included, in turns in one process.

What is trained is kept under runs/; figures are of all that have ended. An hour for each on two cores.
"""

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
from trained import gain, kept, mean

import rlzoo
from rlzoo import report, sac, stac

STEPS, PARTS = 100_000, 32
NAMES = ("STAC", "SAC", "DSAC", "ESTAC")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--task", default="hopper", help="of brax")
parser.add_argument("--only", nargs="*", choices=NAMES, default=NAMES, help="train these (default: all)")
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
env = rlzoo.envs.make(f"brax/{options.task}")
sizes = {"num_envs": 8, "num_updates": 8, "capacity": 100_000, "warmup": 8_000}
of_task = stac.presets.get(options.task, stac.presets["classic"])
rivals = {"STAC": of_task, "DSAC": stac.presets["dsac"], "ESTAC": stac.presets["estac"]}
ALGORITHMS = {
    name: stac.make(env, replace(preset.config, test_samples=0, **sizes), stac.Hyper(beta=preset.hyper.beta))
    for name, preset in rivals.items()
}
first = float(stac.Hyper().init_alpha)
ALGORITHMS["SAC"] = sac.make(env, sac.Config(layer_norm=True, **sizes), sac.Hyper(init_alpha=first))
home = Path(f"runs/stac_{options.task}_{options.seeds}_seeds")


def trained(name: str) -> dict[str, np.ndarray]:
    """Returns and value errors [S]."""
    runs = rlzoo.sweep(ALGORITHMS[name])
    state = rlzoo.init(runs, jax.random.split(jax.random.key(0), options.seeds))
    updates, errors = rlzoo.updates_for(runs, STEPS) // PARTS, []
    for part in range(PARTS):
        state, _ = rlzoo.resume(runs, state, updates)
        if part >= PARTS - PARTS // 4:
            of_sampled = rlzoo.value_error(runs, env, state, jax.random.key(1), 16, deterministic=False)
            errors.append(np.asarray(of_sampled)[0].mean(-1))
        print(f"{name}: {part + 1} of {PARTS} parts", flush=True)
    returns = np.asarray(rlzoo.evaluate(runs, env, state, jax.random.key(2), 64).returns)[0].mean(-1)
    return {"return": returns, "value error": np.mean(errors, axis=0)}


def in_turns(updates: int = 50, rounds: int = 9) -> dict[str, np.ndarray]:
    """Seconds [rounds] that one agent's update takes, one algorithm after the other in every round."""
    states = {name: rlzoo.init(algo, jax.random.key(0)) for name, algo in ALGORITHMS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ALGORITHMS}
    for _ in range(rounds + 1):  # the first one compiles
        for name, algo in ALGORITHMS.items():
            began = time.perf_counter()
            states[name], _ = jax.block_until_ready(rlzoo.resume(algo, states[name], updates))
            seconds[name].append((time.perf_counter() - began) / updates / sizes["num_updates"])
    return {name: np.array(each[1:]) for name, each in seconds.items()}


for name in options.only:
    kept(home / f"{name}.npz", partial(trained, name))
found = {name: of for name in NAMES if (of := kept(home / f"{name}.npz")) is not None}
figures = [mean(f"{what}, {name}", of[what]) for what in ("return", "value error") for name, of in found.items()]
if {"STAC", "SAC"} <= set(found):
    ours, theirs = found["STAC"], found["SAC"]
    figures.append(gain("return, STAC less SAC", ours["return"], theirs["return"], above=False))
    figures.append(gain("value error, SAC less STAC", theirs["value error"], ours["value error"], above=True))
seconds = in_turns()
figures += [report.Figure(f"an update, {name}", 1e3 * float(np.median(x)), "ms") for name, x in seconds.items()]
ratios = seconds["STAC"] / seconds["SAC"]
note = f"{ratios.min():.3f} to {ratios.max():.3f} in {len(ratios)} rounds"
figures.append(report.Figure("an update, STAC's time over SAC's", float(np.median(ratios)), bar="<= 1", note=note))
print(*figures, sep="\n")
if options.record:
    title = f"STAC and its rivals on brax {options.task} ({env.name.split()[-1]}), {STEPS // 1_000}k steps"
    print(report.record(title, figures))
