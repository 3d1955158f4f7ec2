"""A CDSA-style correction of trained policies, none retrained: mean, VaR, CVaR and distance to the data.

    python experiments/cdsa_plugin.py [--data FILE ...] [--bases bc td3 td3_bc prdc] [--seeds 8] [--record]

td3 is TD3+BC without its regularisation. Every base is evaluated with five strengths on the same episodes, in its own
environment and with sticky actions; the strengths are the same for all, chosen on other keys of Pendulum's data. Bars:
the default raises mean and CVaR of a td3 that is worse than its data, and lowers no other mean: the end of the paired
95 % interval that decides it is on the right side of 0. A quarter of an hour on two cores.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import rlzoo
from rlzoo import cdsa, report
from rlzoo.blocks import neighbours
from rlzoo.cli import preset_for

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
own = [Path(f"tests/data/pendulum-{quality}.npz") for quality in ("medium", "medium-replay")]
parser.add_argument("--data", nargs="+", type=Path, default=own)
parser.add_argument("--bases", nargs="+", default=["bc", "td3", "td3_bc", "prdc"])
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
keys = jax.random.split(jax.random.key(0), options.seeds)
rows = ("base", "default", "action part", "state part", "strong")
eta_action, weight, sigma = [0.0, 0.25, 0.25, 0.0, 0.5], [0.0, 0.1, 0.0, 0.1, 0.25], [0.05, 0.05, 0.05, 0.05, 0.2]
strengths = cdsa.Strength(jnp.array(eta_action), weight=jnp.array(weight), sigma=jnp.array(sigma))
statistics = {"mean": np.mean, "CVaR 0.1": partial(report.conditional_value_at_risk, level=0.1)}
for path in options.data:
    dataset, figures = rlzoo.data.load(path), []
    env = rlzoo.envs.make(dataset.about.env.split()[0])
    preset = lambda module: module.presets[preset_for(env.name.split()[0], module.presets, path.name)]  # noqa: B023, E731
    models = cdsa.fit(env, dataset, *preset(cdsa))
    data = neighbours.table(cdsa.joint(models, dataset.obs, dataset.action))
    for base in options.bases:
        module = rlzoo.ALGORITHMS["td3_bc" if base == "td3" else base]
        config, hyper = preset(module)
        runs = rlzoo.sweep(module.make(env, config, dataset, hyper._replace(alpha=1e6) if base == "td3" else hyper))
        trained, _ = rlzoo.train(runs, keys, rlzoo.updates_for(runs, 20_000))
        safe, state = cdsa.corrected(runs, trained, models, strengths)
        distance = []  # of the states and actions of the first seed
        for h in range(len(rows)):
            act = partial(safe.policy, safe.actor(rlzoo.lane(state, h, 0)))
            seen = rlzoo.data.collect(env, act, keys[0], 2_000, 20)
            near = neighbours.nearest(cdsa.joint(models, seen.obs, seen.action), data)
            distance.append(float(np.sqrt(near.squared).mean()))
        for world in (env, rlzoo.envs.stochastic(env, sticky=0.25)):
            returns = np.asarray(rlzoo.evaluate(safe, world, state, jax.random.key(1), 128).returns)  # [H, S, E]
            title = f"{base} on {path.stem}, {world.name.partition('/')[2]}"
            report.risks(title, dict(zip(rows, returns, strict=True)), columns={"distance": distance})
            worse = base == "td3" and returns[0].mean() < dataset.episode_returns().mean()
            for name, statistic in statistics.items():
                point, *ends = map(float, report.paired(returns[0], returns[1], statistic))
                note = f"{point:.1f} ({ends[0]:.1f} to {ends[1]:.1f}) of {statistic(returns[0].ravel()):.1f}"
                bar = ">= 0" if worse or name == "mean" else ""
                what = f"{title}: gain in {name}, {'lower' if worse else 'upper'} end"
                figures.append(report.Figure(what, ends[0] if worse else ends[1], bar=bar, note=note))
    if options.record:
        report.record(f"CDSA-style correction on {dataset.about.name}", figures)
