"""From a half-trained policy and an oracle to a policy by preferences: CPL beside its baselines, all seeds at once.

    python experiments/cpl_pendulum.py [--labels regret] [--updates 3000] [--seeds 8] [--record]

SAC's policy nearest to half-way to its best, with noise of 0.3, is the behaviour; its last critics label the pairs. All
rows have the same number of updates, half of CPL's and SFT's are cloning. Bars: above SFT, and above the behaviour.
"""

import argparse
from dataclasses import replace

import jax
import numpy as np

import rlzoo
from rlzoo import bc, cpl, p_iql, report, sac
from rlzoo.data import preferences

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--labels", choices=["regret", "return"], default="regret")
parser.add_argument("--updates", type=int, default=3_000)
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
env = rlzoo.envs.make("gymnax/Pendulum-v1")
oracle_key, data_key, segment_key, label_key, eval_key = jax.random.split(jax.random.key(0), 5)
oracle = sac.make(env, *sac.presets["classic"])
state, actors, scores = rlzoo.init(oracle, oracle_key), [], []
for _ in range(100):
    state, _ = rlzoo.resume(oracle, state, rlzoo.updates_for(oracle, 20_000) // 100)
    actors.append(jax.tree.map(lambda x: x.copy(), oracle.actor(state)))
    scores.append(float(rlzoo.evaluate(oracle, env, state, eval_key, 64).returns.mean()))
low = float(rlzoo.data.collect(env, None, data_key, 20_000, 20).episode_returns().mean())
half = int(np.argmin(np.abs(np.array(scores) - 0.5 * (low + scores[-1]))))
noise = lambda obs, key: 0.3 * jax.random.normal(jax.random.fold_in(key, 1), (len(obs), 1))  # noqa: E731  half widths
acted = lambda obs, key: env.action_space.to_policy(oracle.policy(actors[half], obs, key))  # noqa: E731
behaviour = lambda obs, key: env.action_space.from_policy(acted(obs, key) + noise(obs, key))  # noqa: E731
dataset = rlzoo.data.collect(env, behaviour, data_key, 100_000, 20)
drawn = preferences.segments(dataset, 4_000, 64, segment_key)
regret = options.labels == "regret"
score = preferences.regret_score(drawn, oracle, state, label_key) if regret else preferences.reward_score(drawn)
data, keys = preferences.compare(drawn, score), jax.random.split(jax.random.key(1), options.seeds)
config, hyper = cpl.presets["small"]
train = lambda algo, updates: rlzoo.train(rlzoo.sweep(algo), keys, updates)[0]  # noqa: E731
cloned = train(cpl.make(env, replace(config, phase="bc"), data, hyper), options.updates // 2)
second = {"CPL": config, "SFT": replace(config, phase="bc", bc_on="preferred")}
rows = {name: rlzoo.sweep(cpl.make(env, x, data, hyper)) for name, x in second.items()}
trained = {name: rlzoo.resume(x, cpl.begin(cloned), options.updates // 2)[0] for name, x in rows.items()}
best = bc.make(env, bc.presets["pendulum"].config, rlzoo.data.best_episodes(dataset, 0.1))
for name, algo in {"P-IQL": p_iql.make(env, p_iql.presets["small"].config, data), "10 % BC": best}.items():
    rows[name], trained[name] = rlzoo.sweep(algo), train(algo, options.updates)
evaluated = {name: rlzoo.evaluate(x, env, trained[name], eval_key, 128).returns for name, x in rows.items()}
returns = {name: np.asarray(x)[0].mean(-1) for name, x in evaluated.items()}
own = float(dataset.episode_returns().mean())
report.table(f"Pendulum by {options.labels}: behaviour {own:.1f}, oracle {scores[-1]:.1f}", returns)
if options.record:
    bar = f">= {max(own, float(report.interval(returns['SFT']).high)):.1f}"  # for the lower end of CPL's interval
    figures = [report.returns_figures(name, x)[1] for name, x in returns.items()]
    figures.append(report.Figure("lower end of CPL's interval", float(report.interval(returns["CPL"]).low), bar=bar))
    report.record(f"CPL on Pendulum-v1 by {options.labels}, behaviour {own:.0f}", figures)
