"""Speed of A2C beside PPO on the same batch, and of A3C's round-robin beside the literal loop, on CartPole-v1.

    python benchmarks/actor_critic.py [--rounds 9] [--record]

A2C and PPO (one epoch, one minibatch, nothing normalised) train the same network (64-64, tanh) on 64 environments
× 16 steps. A3C has 16 workers of up to 5 steps. All take turns in one process: A, B, C, D, A, B, …; ratios are taken
round by round and their medians printed.
"""

import argparse
import time

import jax
import numpy as np

import rlzoo
from rlzoo import a2c, a3c, ppo
from rlzoo.report.record import hardware

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rounds", type=int, default=9)
parser.add_argument("--updates", type=int, default=500, help="per measurement")
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

env = rlzoo.envs.make("gymnax/CartPole-v1")
batch = {"num_envs": 64, "num_steps": 16}
plain = {"num_epochs": 1, "num_minibatches": 1, "normalise_obs": False, "normalise_reward": False}
algos = {
    "A2C": a2c.make(env, a2c.Config(**batch)),
    "PPO": ppo.make(env, ppo.Config(**batch, **plain, normalise_advantage=False)),
    "A3C": a3c.make(env, a3c.Config(num_workers=16)),
    "A3C in turn": a3c.make(env, a3c.Config(num_workers=16, schedule="sequential")),
}
states = {name: rlzoo.init(algo, jax.random.key(0)) for name, algo in algos.items()}
speeds = {name: [] for name in algos}
print(hardware())
for number in range(options.rounds + 1):  # the first compiles
    for name, algo in algos.items():
        began = time.perf_counter()
        states[name], metrics = rlzoo.resume(algo, states[name], options.updates)
        jax.block_until_ready(metrics)
        taken = metrics["worker/steps"].sum() if "worker/steps" in metrics else options.updates * algo.steps_per_update
        speeds[name].append(float(taken) / (time.perf_counter() - began))
    if number:
        print(
            f"round {number}: " + ", ".join(f"{name} {speed[-1]:,.0f}" for name, speed in speeds.items()) + " steps/s"
        )

speeds = {name: np.array(speed[1:]) for name, speed in speeds.items()}
figures = [rlzoo.report.Figure(name, float(np.median(speed)), "steps/s") for name, speed in speeds.items()]
for what, ratio, bar in (
    ("A2C over PPO", speeds["A2C"] / speeds["PPO"], ">= 1.0"),
    ("A3C, 16 workers, over the literal loop", speeds["A3C"] / speeds["A3C in turn"], ">= 3.0"),
):
    spread = f"{len(ratio)} rounds, {ratio.min():.2f} to {ratio.max():.2f}"
    figures.append(rlzoo.report.Figure(what, float(np.median(ratio)), "×", bar=bar, note=spread))
print(*figures, sep="\n")
if options.record:
    print(rlzoo.report.record("Speed of A2C and A3C on CartPole-v1", figures))
