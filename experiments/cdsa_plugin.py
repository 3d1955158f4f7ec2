"""A CDSA-style correction of trained policies, none retrained: mean, VaR, CVaR and distance to the data.

    python experiments/cdsa_plugin.py [--data FILE ...] [--bases bc td3 td3_bc prdc] [--seeds 8] [--record]

td3 is TD3+BC unregularised. All strengths see the same episodes, in the bases' environment and with sticky actions; the
default was chosen on other keys. Bars: it raises a td3 worse than its data, and lowers no other mean. A quarter hour.
"""

import argparse
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import rlzoo
from rlzoo import cdsa, report
from rlzoo.drivers.named import preset_for

own = [Path(f"tests/data/pendulum-{quality}.npz") for quality in ("medium", "medium-replay")]
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", nargs="+", type=Path, default=own)
parser.add_argument("--bases", nargs="+", default=["bc", "td3", "td3_bc", "prdc"])
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
keys, key = jax.random.split(jax.random.key(0), options.seeds), jax.random.key(1)
rows = ("base", "default", "action part", "state part", "strong")
eta_action, weight = jnp.array([0.0, 0.25, 0.25, 0.0, 0.5]), jnp.array([0.0, 0.05, 0.0, 0.05, 0.25])
strengths = cdsa.Strength(eta_action, weight=weight, sigma=jnp.array([0.05, 0.05, 0.05, 0.05, 0.2]))
statistics = {"mean": np.mean, "CVaR 0.1": partial(report.conditional_value_at_risk, level=0.1)}
for path in options.data:
    dataset, figures = rlzoo.data.load(path), []
    env = rlzoo.envs.make(dataset.about.env)
    preset = lambda module: module.presets[preset_for(env.name.split()[0], module.presets, path.name)]  # noqa: B023, E731
    models = cdsa.fit(env, dataset, *preset(cdsa))
    for base in options.bases:
        module = rlzoo.ALGORITHMS["td3_bc" if base == "td3" else base]
        config, hyper = preset(module)
        runs = rlzoo.sweep(module.make(env, config, dataset, hyper._replace(alpha=1e6) if base == "td3" else hyper))
        trained, _ = rlzoo.train(runs, keys, rlzoo.updates_for(runs, 20_000))
        safe, state = cdsa.corrected(runs, trained, models, strengths)
        acts = [partial(safe.policy, safe.actor(rlzoo.lane(state, h, 0)), deterministic=True) for h in range(len(rows))]
        for world in (env, rlzoo.envs.stochastic(env, sticky=0.25)):
            returns = np.asarray(rlzoo.evaluate(safe, world, state, key, 128).returns)  # [H, S, E]
            seen = [rlzoo.data.collect(world, act, key, 2_000, 20) for act in acts]
            distance = [float(cdsa.distances(models, dataset, x).mean()) for x in seen]
            title = f"{base} on {path.stem}, {world.name.partition('/')[2]}"
            report.risks(title, dict(zip(rows, returns, strict=True)), columns={"distance": distance})
            figures.append(report.returns_figures(f"{title}: return corrected", returns[1].mean(-1))[1])
            worse = base == "td3" and returns[0].mean() < dataset.episode_returns().mean()
            for name, statistic in statistics.items():
                point, *ends = map(float, report.paired(returns[0], returns[1], statistic))
                note = f"{point:.1f} ({ends[0]:.1f} to {ends[1]:.1f}) of {statistic(returns[0].ravel()):.1f}"
                what = f"{title}: gain in {name}, {'lower' if worse else 'upper'} end"
                bar = ">= 0" if worse or name == "mean" else ""
                figures.append(report.Figure(what, ends[0 if worse else 1], bar=bar, note=note))
    if options.record:
        report.record(f"CDSA-style correction on {dataset.about.name}", figures)
