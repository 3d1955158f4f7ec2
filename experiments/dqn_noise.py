"""DQN's heads where rewards are noisy: CartPole-v1 with normal noise on every reward, of three strengths.

    python experiments/dqn_noise.py [--seeds 8] [--steps 100000] [--record]

What "Stop Regressing" claims of noisy targets, in small. All strengths learn in one program for each head. Returns are
of greedy policies without noise, 64 episodes a seed. Ten minutes on two cores.
"""

import argparse
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

import rlzoo
from rlzoo import dqn, report

NOISES, HEADS = (0.0, 1.0, 3.0), ("scalar", "mean", "hl_gauss", "two_hot", "c51", "quantile")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--steps", type=int, default=100_000)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
plain = rlzoo.envs.make("gymnax/CartPole-v1")
noisy = rlzoo.envs.stochastic(plain)
config, hyper = dqn.presets["classic"]
hyper = hyper._replace(value_low=-20.0, value_high=120.0)  # values lie in 0 to 100
keys, figures = jax.random.split(jax.random.key(0), options.seeds), []
for head in HEADS:
    algo = dqn.make(noisy, replace(config, head=head, double=True, num_bins=71), hyper)
    runs = rlzoo.sweep(algo, task=noisy.params._replace(reward_noise=jnp.array(NOISES)))
    num_updates = (options.steps - runs.warmup_steps) // runs.steps_per_update
    state, _ = rlzoo.train(runs, keys, num_updates)
    scores = np.asarray(rlzoo.evaluate(runs, plain, state, jax.random.key(1), 64).returns).mean(-1)  # [H, S]
    print(head, *(f"noise {noise:g}: {x.round(0)}" for noise, x in zip(NOISES, scores, strict=True)), flush=True)
    figures += [report.returns_figures(f"{head}, noise {x:g}", y)[1] for x, y in zip(NOISES, scores, strict=True)]
if options.record:
    report.record(f"DQN's heads on a noisy CartPole-v1, {options.steps // 1_000}k steps", figures)
