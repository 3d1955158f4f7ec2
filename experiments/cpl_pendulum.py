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


def behaviour(obs, key):
    """The half-trained policy, sampled, with noise of 0.3 half widths."""
    action = env.action_space.to_policy(oracle.policy(actors[half], obs, key))
    return env.action_space.from_policy(action + 0.3 * jax.random.normal(jax.random.fold_in(key, 1), action.shape))


dataset = rlzoo.data.collect(env, behaviour, data_key, 100_000, 20)
drawn = preferences.segments(dataset, 4_000, 64, segment_key)
regret = options.labels == "regret"
score = preferences.regret_score(drawn, oracle, state, label_key) if regret else preferences.reward_score(drawn)
data = preferences.compare(drawn, score)
keys = jax.random.split(jax.random.key(1), options.seeds)
config, hyper = cpl.presets["small"]
train = lambda algo, updates: rlzoo.train(rlzoo.sweep(algo), keys, updates)[0]  # noqa: E731
cloned = train(cpl.make(env, replace(config, phase="bc"), data, hyper), options.updates // 2)
second = {"CPL": config, "SFT": replace(config, phase="bc", bc_on="preferred")}
rows = {name: rlzoo.sweep(cpl.make(env, x, data, hyper)) for name, x in second.items()}
trained = {name: rlzoo.resume(x, cpl.begin(cloned), options.updates // 2)[0] for name, x in rows.items()}
best = rlzoo.data.best_episodes(dataset, 0.1)
for name, algo in {
    "P-IQL": p_iql.make(env, p_iql.presets["small"].config, data),
    "10 % BC": bc.make(env, bc.presets["pendulum"].config, best),
}.items():
    rows[name], trained[name] = rlzoo.sweep(algo), train(algo, options.updates)
returns = {
    name: np.asarray(rlzoo.evaluate(x, env, trained[name], eval_key, 128).returns)[0].mean(-1)
    for name, x in rows.items()
}
report.table(
    f"Pendulum by {options.labels}: behaviour {dataset.episode_returns().mean():.1f}, oracle {scores[-1]:.1f}", returns
)
