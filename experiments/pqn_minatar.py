"""PQN beside DQN and PPO on a game of MinAtar, by steps and by seconds.

    python experiments/pqn_minatar.py [--game Breakout] [--steps 2000000] [--seeds 4] [--only pqn ppo dqn] [--record]

The presets for MinAtar, rates annealed over what is trained. Returns are of greedy policies, 64 episodes a seed;
seconds are those of this machine, all seeds in one program, compiling left out. Half an hour for DQN, a quarter of it
for the others, on two cores.
"""

import argparse
import time

import jax
import numpy as np

import rlzoo
from rlzoo import report

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--game", default="Breakout", choices=("Breakout", "Freeway", "Asterix", "SpaceInvaders"))
parser.add_argument("--steps", type=int, default=2_000_000)
parser.add_argument("--seeds", type=int, default=4)
parser.add_argument("--only", nargs="+", default=["pqn", "ppo", "dqn"], choices=("pqn", "ppo", "dqn"))
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
env = rlzoo.envs.make(f"gymnax/{options.game}-MinAtar")
keys, figures = jax.random.split(jax.random.key(0), options.seeds), []
for name in options.only:
    module = rlzoo.ALGORITHMS[name]
    config, hyper = module.presets["minatar"]
    shares = {"anneal_steps": 1.0, "epsilon_steps": 0.1}  # of what is trained
    hyper = hyper._replace(**{x: y * options.steps for x, y in shares.items() if x in hyper._fields})
    runs = rlzoo.sweep(module.make(env, config, hyper))
    parts, state = 20, rlzoo.init(runs, keys)
    updates = (options.steps - runs.warmup_steps) // runs.steps_per_update // parts
    seconds = []
    for _ in range(parts):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(rlzoo.resume(runs, state, updates))
        seconds.append(time.perf_counter() - began)
    scores = np.asarray(rlzoo.evaluate(runs, env, state, jax.random.key(1), 64).returns)[0].mean(-1)
    taken = float(np.median(seconds)) * parts
    print(name, scores.round(1), f"{taken:.0f} s", flush=True)
    figures += report.returns_figures(f"{name.upper()}, return", scores)
    figures.append(report.Figure(f"{name.upper()}, seconds of {options.seeds} seeds", taken, "s"))
if options.record:
    report.record(f"PQN, PPO and DQN on {options.game}-MinAtar, {options.steps / 1e6:g}M steps", figures)
