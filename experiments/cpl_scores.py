"""CPL from preferences beside the policy that the data are of, SFT, P-IQL and cloning of the best episodes.

    python experiments/cpl_scores.py [--data data/pendulum-half] [--labels regret return] [--updates 4000] [--record]

After cpl_preferences.py. All seeds of an algorithm are one program, and all algorithms have the same number of updates;
of CPL's and SFT's half are cloning. Bars: CPL's interval above SFT's, and above the behaviour. Discrete actions have
CPL and SFT only.
"""

import argparse
from dataclasses import replace

import jax
import numpy as np

import rlzoo
from rlzoo import bc, cpl, p_iql, report
from rlzoo.data import preferences
from rlzoo.types import Discrete

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="data/pendulum-half", help="without ending")
parser.add_argument("--labels", nargs="+", choices=["regret", "return"], default=["regret", "return"])
parser.add_argument("--updates", type=int, default=4_000)
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--episodes", type=int, default=128)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
dataset, keys = rlzoo.data.load(f"{options.data}.npz"), jax.random.split(jax.random.key(1), options.seeds)
env = rlzoo.envs.make(dataset.about.env)
config, hyper = cpl.presets["pendulum" if "Pendulum" in env.name else "small"]
own, best = float(dataset.episode_returns().mean()), rlzoo.data.best_episodes(dataset, 0.1)
for labels in options.labels:
    pairs = preferences.load(f"{options.data}-{labels}.npz")
    of = lambda config: rlzoo.sweep(cpl.make(env, config, pairs, hyper))  # noqa: B023, E731
    cloned, _ = rlzoo.train(of(replace(config, phase="bc")), keys, options.updates // 2)
    second = {"CPL": of(config), "SFT": of(replace(config, phase="bc", bc_on="preferred"))}
    trained = {x: (y, rlzoo.resume(y, cpl.begin(cloned, y), options.updates // 2)[0]) for x, y in second.items()}
    if not isinstance(env.action_space, Discrete):
        form, rates = p_iql.presets["small"]
        rates = rates._replace(reward_steps=options.updates / 2, anneal_steps=options.updates)
        cloning = bc.Config(batch_size=1_024, hidden=(64, 64)), best, bc.Hyper(learning_rate=1e-3)
        offline = {"P-IQL": p_iql.make(env, form, pairs, rates), "10 % BC": bc.make(env, *cloning)}
        runs = {name: rlzoo.sweep(algo) for name, algo in offline.items()}
        trained |= {x: (y, rlzoo.train(y, keys, options.updates)[0]) for x, y in runs.items()}
    play = lambda runs, state: rlzoo.evaluate(  # noqa: E731  sampled, as the data were
        runs, env, state, jax.random.key(2), options.episodes, deterministic=False
    )
    returns = {name: np.asarray(play(*x).returns)[0].mean(-1) for name, x in trained.items()}  # [S]
    title = f"CPL from {dataset.about.name} by {labels}, {options.updates:,} updates"
    report.table(f"{title}: behaviour {own:.1f}, oracle {dataset.about.expert_score:.1f}", returns)
    if options.record:
        bar = f">= {max(own, float(report.interval(returns['SFT']).high)):.1f}"
        low = float(report.interval(returns["CPL"]).low)
        best_known = dataset.about.expert_score
        figures = [report.Figure("behaviour", own), report.Figure("oracle", best_known)]
        for name, x in returns.items():
            share = f"{100 * (x.mean() - own) / (best_known - own):.0f} from behaviour (0) to oracle (100), mean"
            figures.append((iqm := report.returns_figures(name, x)[1])._replace(note=f"{iqm.note}; {share}"))
        report.record(title, [*figures, report.Figure("lower end of CPL's interval", low, bar=bar)])
