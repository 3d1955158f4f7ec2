"""An oracle, a half-trained policy's data, and preferences between its segments by regret and by return.

    python experiments/cpl_preferences.py [--env gymnax/Pendulum-v1] [--segments 4000] [--seed 0] [--record]

SAC's policy nearest to half-way from random to its last is the behaviour, on a box with noise of 0.3; its last critics
know the regret. Writes data/pendulum-half.npz (or -half-SEED), -half-regret.npz and -half-return.npz for cpl_scores.py
and `rlzoo train cpl --env ... --data ...`. Two minutes for Pendulum, half an hour for "brax/halfcheetah spring".
"""

import argparse
from pathlib import Path

import jax
import numpy as np

import rlzoo
from rlzoo import data, sac
from rlzoo.data import preferences
from rlzoo.types import Discrete

RATES = {"actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3, "alpha_learning_rate": 1e-3}
ACROBOT = sac.Config(num_envs=4, num_updates=2, batch_size=128, hidden=(64, 64), warmup=2_000)
ORACLES = {  # SAC's numbers, and its steps; brax: 100,000
    "gymnax/Pendulum-v1": (*sac.presets["classic"], 20_000),
    "gymnax/Acrobot-v1": (ACROBOT, sac.Hyper(**RATES, target_entropy=0.3), 60_000),
}
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--env", default="gymnax/Pendulum-v1")
parser.add_argument("--rows", type=int, default=100_000)
parser.add_argument("--segments", type=int, default=4_000)
parser.add_argument("--length", type=int, default=64, help="of a segment; no longer than an episode")
parser.add_argument("--seed", type=int, default=0, help="of the oracle, the data and the segments")
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
env, (config, hyper, steps) = rlzoo.envs.make(options.env), ORACLES.get(options.env, (*sac.presets["brax"], 100_000))
oracle, space = sac.make(env, config, hyper), env.action_space
train_key, random_key, data_key, segment_key, label_key = jax.random.split(jax.random.key(options.seed), 5)
updates = rlzoo.updates_for(oracle, steps)
kept = rlzoo.snapshots(oracle, train_key, updates, 200, 16, eval_key=jax.random.key(0), deterministic=False)
low = float(data.collect(env, None, random_key, options.rows, 20).episode_returns().mean())
half = int(np.argmin(np.abs(kept.returns - 0.5 * (low + kept.returns[-1]))))
acted = lambda obs, key: oracle.policy(kept.actors[half], obs, key)  # noqa: E731
noise = lambda obs, key: 0.3 * jax.random.normal(jax.random.fold_in(key, 1), (len(obs), *space.shape))  # noqa: E731
noisy = lambda obs, key: space.from_policy(space.to_policy(acted(obs, key)) + noise(obs, key))  # noqa: E731
name = f"{env.name.partition('/')[2].split()[0].partition('-v')[0].lower()}-half{-options.seed or ''}"  # -half, -half-1
about = data.About(name, env.name, low, float(kept.returns[-1]))
dataset = data.collect(env, acted if isinstance(space, Discrete) else noisy, data_key, options.rows, 20, about=about)
drawn = preferences.segments(dataset, options.segments, options.length, segment_key)
regret = preferences.compare(drawn, preferences.regret_score(drawn, oracle, kept.state, label_key))
by_return = preferences.compare(drawn, preferences.reward_score(drawn))
for by, pairs in {"regret": regret, "return": by_return}.items():
    print(preferences.save(Path(f"data/{name}-{by}.npz"), pairs))
print(data.save(Path(f"data/{name}.npz"), dataset))  # last: where it is, all are
returns = {"random": low, "behaviour": float(dataset.episode_returns().mean()), "oracle": about.expert_score}
figures = [rlzoo.report.Figure(f"mean return, {who}", x) for who, x in returns.items()]
alike = float((regret.label == by_return.label).mean())
figures.append(rlzoo.report.Figure("share of pairs that regret and return label alike", alike))
print(*figures, sep="\n")
if options.record:
    rlzoo.report.record(f"Preferences on {options.env}{-options.seed or ''}", figures)
