"""From a half-trained policy and an oracle to a policy by preferences: CPL beside its baselines, all seeds at once.

    python experiments/cpl_pendulum.py [--env gymnax/Pendulum-v1] [--labels regret] [--seeds 8] [--record]

SAC's policy half-way to its best, with noise of 0.3, is the behaviour; its last critics label pairs of segments. Bars: CPL
is above SFT and above the behaviour.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import rlzoo
from rlzoo import bc, cpl, p_iql, sac
from rlzoo.cli import preset_for
from rlzoo.data import preferences

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--env", default="gymnax/Pendulum-v1")
parser.add_argument("--oracle-steps", type=int, default=20_000)
parser.add_argument("--segments", type=int, default=4_000, help="compared in pairs, each once")
parser.add_argument("--length", type=int, default=64, help="steps of a segment")
parser.add_argument("--updates", type=int, default=10_000, help="of cloning, and of preferences again")
parser.add_argument("--labels", choices=["regret", "return"], default="regret")
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
env = rlzoo.envs.make(options.env)
oracle_key, data_key, segment_key, label_key, eval_key = jax.random.split(jax.random.key(0), 5)
keys = jax.random.split(jax.random.key(1), options.seeds)
oracle = sac.make(env, *sac.presets[preset_for(options.env, sac.presets)])
state, actors, scores = rlzoo.init(oracle, oracle_key), [], []
for _ in range(40):
    state, _ = rlzoo.resume(oracle, state, rlzoo.updates_for(oracle, options.oracle_steps) // 40)
    actors.append(jax.tree.map(jnp.copy, oracle.actor(state)))
    scores.append(float(rlzoo.evaluate(oracle, env, state, eval_key, 64).returns.mean()))
random = rlzoo.data.collect(env, None, data_key, 20 * env.horizon, 20)
low, high = float(random.episode_returns().mean()), scores[-1]
half = next(i for i, score in enumerate(scores) if score >= low + (high - low) / 2)


def behaviour(obs, key):
    """The half-trained policy, sampled, with noise of 0.3 half widths."""
    action_key, noise_key = jax.random.split(key)
    action = env.action_space.to_policy(oracle.policy(actors[half], obs, action_key))
    return env.action_space.from_policy(action + 0.3 * jax.random.normal(noise_key, action.shape))


dataset = rlzoo.data.collect(env, behaviour, data_key, 500 * env.horizon, 20)
