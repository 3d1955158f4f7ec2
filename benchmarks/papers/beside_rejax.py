"""SAC and PPO on brax's default backend, beside Rejax: what both reach with the same sizes, rates and steps.

    python benchmarks/papers/beside_rejax.py [--algorithm sac] [--tasks hopper halfcheetah] [--steps 100000] [--record]

Our preset for brax, and Rejax 0.1.3 with the same environments, networks, batches, updates, rates and normalisation.
What one library has alone stays: ours ends episodes at the limit of time without calling it a death, acts at random in
SAC's warm-up, anneals PPO's rate and begins with half of its spread. Actions are sampled, as Rejax evaluates; 64
episodes of each of 8 seeds. Bar: the mean of ours not below theirs by more than Welch's 95% interval of the difference.

What is trained is kept under runs/. SAC takes about 40 minutes for each library and task on two cores, PPO hours.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
from trained import device_a_core, gone_on, kept, mean, welch

import rlzoo
from rlzoo import ppo, report, sac

BENCHMARKS = Path(__file__).parents[1]
sys.path.append(str(BENCHMARKS))
import peers  # noqa: E402

SEEDS, EPISODES = 8, 64
TASKS = ("inverted_pendulum", "inverted_double_pendulum", "hopper", "halfcheetah")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--algorithm", choices=("sac", "ppo"), default="sac")
parser.add_argument("--tasks", nargs="+", default=TASKS, help="of brax")
parser.add_argument("--steps", type=int, help="of the environment; default: 100,000 for SAC, 5,000,000 for PPO")
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
device_a_core(SEEDS)
module = {"sac": sac, "ppo": ppo}[options.algorithm]
steps = options.steps or {"sac": 100_000, "ppo": 5_000_000}[options.algorithm]
config, hyper = module.presets["brax"]


def ours(task: str) -> dict[str, np.ndarray]:
    """Returns [S] of sampled actions."""
    env = rlzoo.envs.make(f"brax/{task}")
    rates = hyper._replace(anneal_steps=float(steps)) if options.algorithm == "ppo" else hyper
    runs = rlzoo.spread(rlzoo.sweep(module.make(env, config, rates)))
    keys = jax.random.split(jax.random.key(0), SEEDS)
    run = gone_on(runs, keys, rlzoo.updates_for(runs, steps), home(task) / "ours")
    episodes = rlzoo.evaluate(runs, env, run.state, jax.random.key(1), EPISODES, deterministic=False)
    return {"returns": np.asarray(episodes.returns)[0].mean(-1)}


def theirs(task: str) -> dict[str, np.ndarray]:
    """Returns [S] of Rejax's agents, from a process of its environment."""
    if options.algorithm == "ppo":
        sizes = {x: getattr(config, x) for x in ("num_envs", "num_steps", "num_epochs", "num_minibatches", "hidden")}
        rates = {"learning_rate": hyper.learning_rate, "gae_lambda": hyper.gae_lambda, "clip_eps": hyper.clip_eps}
        rates |= {"vf_coef": hyper.value_coef, "ent_coef": hyper.entropy_coef, "max_grad_norm": hyper.max_grad_norm}
        rates |= {"normalize_observations": config.normalise_obs, "normalize_rewards": config.normalise_reward}
    else:
        sizes = {x: getattr(config, x) for x in ("batch_size", "capacity", "warmup", "hidden")}
        rates = {"learning_rate": hyper.critic_learning_rate, "num_envs": config.num_envs}
        # Theirs moves the target once an iteration, however many updates that has.
        rates |= {"num_epochs": config.num_updates, "polyak": (1.0 - hyper.tau) ** config.num_updates}
    case = {"algorithm": options.algorithm, "env": f"brax/{task}", "env_options": {}, "sizes": sizes, "seed": 0}
    case |= {"lanes": SEEDS, "steps": steps, "episodes": EPISODES, "more": rates | {"gamma": hyper.gamma}}
    worker = BENCHMARKS / "workers" / "returns_of_rejax.py"
    found = peers.in_process([str(peers.rejax()), str(worker), json.dumps(case)])
    return {"returns": np.array(found["returns"]).mean(-1)}


def home(task: str) -> Path:
    return Path(f"runs/brax_{task}_{options.algorithm}_{steps}")


for task in options.tasks:
    sides = {"ours": partial(ours, task), "Rejax": partial(theirs, task)}
    found = {side: kept(home(task) / f"{side}.npz", measure)["returns"] for side, measure in sides.items()}
    figures = [mean(f"return, {side}", x, " ".join(f"{one:.0f}" for one in x)) for side, x in found.items()]
    figures.append(welch("return, ours less Rejax's", *found.values()))
    print(*figures, sep="\n", flush=True)
    if options.record:
        name = options.algorithm.upper()
        print(report.record(f"{name} and Rejax's on brax {task} (generalized), {steps // 1_000}k steps", figures))
