"""STAC beside SAC, DSAC and ESTAC on brax: returns, overestimation, and what an update costs.

    python benchmarks/papers/stac.py [--task hopper] [--only STAC SAC] [--seeds 8] [--record]

What the abstract of arXiv:2601.00737 claims of one critic: no less return than two, less overestimation, in less time.
brax's own default backend, 100,000 steps; sizes, rates, environments and updates are the same for all four. The value
error is the mean of eight evaluations over the last quarter. Bars: 95% intervals of STAC less SAC, seed by seed.

What is trained is kept under runs/; figures are of all that have ended. An hour for each on two cores.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

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
ALGORITHMS = {
    "STAC": lambda: stac.make(env, replace(of_task.config, **sizes), stac.Hyper(beta=of_task.hyper.beta)),
    "SAC": lambda: sac.make(env, sac.Config(**sizes)),
    "DSAC": lambda: stac.make(env, replace(stac.presets["dsac"].config, **sizes)),
    "ESTAC": lambda: stac.make(env, replace(stac.presets["estac"].config, **sizes)),
}
home = Path(f"runs/stac_{options.task}")


def trained(name: str) -> dict[str, np.ndarray]:
    """Returns and value errors [S], and seconds for an update of one agent, medians over the parts of the run."""
    runs = rlzoo.sweep(ALGORITHMS[name]())
    state = rlzoo.init(runs, jax.random.split(jax.random.key(0), options.seeds))
    updates, seconds, errors = rlzoo.updates_for(runs, STEPS) // PARTS, [], []
    for part in range(PARTS):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(rlzoo.resume(runs, state, updates))
        seconds.append(time.perf_counter() - began)
        if part >= PARTS - PARTS // 4:
            errors.append(np.asarray(rlzoo.value_error(runs, env, state, jax.random.key(1), 16))[0].mean(-1))
        print(f"{name}: {part + 1} of {PARTS} parts, {seconds[-1]:.0f} s", flush=True)
    returns = np.asarray(rlzoo.evaluate(runs, env, state, jax.random.key(2), 64).returns)[0].mean(-1)
    each = np.median(seconds[1:]) / (updates * sizes["num_updates"] * options.seeds)
    return {"return": returns, "value error": np.mean(errors, axis=0), "seconds": np.array(each)}


found = {}
for name in ALGORITHMS:
    kept = home / f"{name}.npz"
    if name in options.only and not kept.exists():
        home.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **trained(name))
    if kept.exists():
        found[name] = dict(np.load(kept))
figures = []
for name, of in found.items():
    figures += [report.returns_figures(f"{what}, {name}", of[what])[1] for what in ("return", "value error")]
    figures.append(report.Figure(f"an update, {name}", 1e3 * float(of["seconds"]), "ms"))
if {"STAC", "SAC"} <= set(found):
    for what, sign in (("return", 1.0), ("value error", -1.0)):
        gain = found["STAC"][what] - found["SAC"][what]
        mean, low, high = map(float, report.interval(gain, np.mean))
        worst = high if sign > 0 else -high  # no worse in return; less error
        note = f"STAC less SAC {mean:.3g} ({low:.3g} to {high:.3g})"
        what = "return, upper end of STAC less SAC" if sign > 0 else "value error, lower end of SAC less STAC"
        figures.append(report.Figure(what, worst, bar=">= 0", note=note))
    ratio = float(found["STAC"]["seconds"] / found["SAC"]["seconds"])
    figures.append(report.Figure("an update, STAC's time over SAC's", ratio, bar="<= 1"))
print(*figures, sep="\n")
if options.record:
    title = f"STAC and its rivals on brax {options.task} ({env.name.split()[-1]}), {STEPS // 1_000}k steps"
    print(report.record(title, figures))
