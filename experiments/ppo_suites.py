"""PPO on suites: Craftax-Classic, MiniGrid, Snake and 2048 with their masks, connect four against random moves.

    python experiments/ppo_suites.py [craftax doorkey snake 2048 connect_four cartpole cheetah] [--seeds 4] [--record]

Numbers as in the table below. Returns are of sampled actions, 64 episodes a seed, beside those before training. Each
under half an hour on two cores.
"""

import argparse

import jax
import numpy as np

import rlzoo
from rlzoo import ppo, report

PIXELS = ppo.Config(
    num_envs=64,
    num_steps=32,
    num_epochs=4,
    num_minibatches=8,
    hidden=(128, 128),
    activation="relu",
    normalise_obs=False,
)
VECTORS = ppo.Config(num_envs=64, num_steps=32, num_epochs=4, num_minibatches=8, hidden=(128, 128))
MOVING = ppo.Config(num_envs=64, num_steps=32, num_epochs=8, num_minibatches=8, hidden=(128, 128), init_std=0.5)
GAME = ppo.Hyper(learning_rate=1e-3, entropy_coef=0.01, gae_lambda=0.9)
BODY = ppo.Hyper(learning_rate=6e-4, gamma=0.995)
CACHED = {"cached_reset": True}
TASKS = {  # environment, its options, steps, and what of PPO
    "craftax": ("craftax/Craftax-Classic-Symbolic-v1", CACHED, 1_000_000, (VECTORS, GAME)),
    "doorkey": ("xminigrid/MiniGrid-DoorKey-5x5", {}, 2_000_000, (PIXELS, GAME)),
    "snake": ("jumanji/Snake-v1", {"horizon": 1_000}, 1_000_000, (PIXELS, GAME)),
    "2048": ("jumanji/Game2048-v1", {}, 2_000_000, (VECTORS, GAME._replace(gamma=0.997))),
    "connect_four": ("pgx/connect_four", {}, 1_000_000, (PIXELS, GAME)),
    "cartpole": ("playground/CartpoleBalance", CACHED, 1_000_000, (MOVING, BODY)),
    "cheetah": ("playground/CheetahRun", CACHED, 1_000_000, (MOVING, BODY)),
}
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; default: the first five")
parser.add_argument("--seeds", type=int, default=4)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
for name in options.tasks or list(TASKS)[:5]:
    task, physics, steps, (config, hyper) = TASKS[name]
    env = rlzoo.envs.make(task, **physics)
    runs = rlzoo.sweep(ppo.make(env, config, hyper._replace(anneal_steps=float(steps))))
    keys = jax.random.split(jax.random.key(0), options.seeds)
    scores = lambda state: np.asarray(  # noqa: E731
        rlzoo.evaluate(runs, env, state, jax.random.key(1), 64, deterministic=False).returns  # noqa: B023
    )[0].mean(-1)
    before = scores(rlzoo.init(runs, keys, quiet=True))
    found = rlzoo.run(runs, keys, -(-steps // runs.steps_per_update), eval_episodes=0)
    after = scores(found.state)
    print(name, before.round(2), after.round(2), flush=True)
    if options.record:
        figures = report.returns_figures("return", after)
        figures.append(report.Figure("return before training, mean", float(before.mean())))
        report.record(f"PPO on {env.name}, {steps // 1_000_000}M steps", figures)
