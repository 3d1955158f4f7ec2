"""Record datasets named as D4RL's: random, medium-replay, medium, medium-expert and expert, by one SAC agent.

    python experiments/make_datasets.py [--env gymnax/Pendulum-v1] [--rows 20000] [--steps 20000] [--record]

medium is the first policy at a third of the way from the random to the last policy's return, medium-replay everything
seen until then, expert the last policy; SACo is over the random set. Reference scores are in every file and, with seed
and steps of both policies, in a .json. A minute for Pendulum; for brax/hopper, ...: --rows 100000 --steps 1000000.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import jax

import rlzoo
from rlzoo import data, sac
from rlzoo.drivers.named import preset_for
from rlzoo.drivers.train import steps_after

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--env", default="gymnax/Pendulum-v1")
parser.add_argument("--backend", default="spring", help="of brax")
parser.add_argument("--rows", type=int, default=20_000, help="of random, medium and expert; medium-expert has both")
parser.add_argument("--steps", type=int, default=20_000, help="that SAC is trained for")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--directory", type=Path, default=Path("data"))
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
physics = {"backend": options.backend} if options.env.startswith("brax/") else {}
env = rlzoo.envs.make(options.env, **physics)
config, hyper = sac.presets[preset_for(options.env, sac.presets)]
algo = sac.make(env, replace(config, capacity=max(options.steps, config.capacity)), hyper)  # keeps all that is seen
train_key, eval_key, *data_keys = jax.random.split(jax.random.key(options.seed), 5)
show = lambda updates, score: print(f"{steps_after(algo, updates):,} steps: {score:.1f}", flush=True)  # noqa: E731
kept = rlzoo.snapshots(algo, train_key, rlzoo.updates_for(algo, options.steps), eval_key=eval_key, each=show)
recorded = lambda policy, key: data.collect(env, policy, key, options.rows, 20)  # noqa: E731
policy = lambda i: lambda obs, key: algo.policy(kept.actors[i], obs, key)  # noqa: E731
random = recorded(None, data_keys[0])
low, high = float(random.episode_returns().mean()), float(kept.returns[-1])
assert high > low, f"SAC has learned nothing: return {high:.1f}, at random {low:.1f}; give more --steps"
medium = next(i for i, score in enumerate(kept.returns) if score >= low + (high - low) / 3)
seen = [steps_after(algo, int(updates)) for updates in kept.num_updates]
replay = data.from_replay(env, kept.state.replay, seen[medium], config.num_envs)  # its rows until then
sets = {"random": random, "medium-replay": replay, "medium": recorded(policy(medium), data_keys[1])}
sets["expert"] = recorded(policy(-1), data_keys[2])
sets["medium-expert"] = data.concatenate(sets["medium"], sets["expert"])
name = env.name.partition("/")[2].split()[0].partition("-v")[0].lower()
about = {"random score": low, "expert score": high, "seed": options.seed, "steps": [seen[medium], seen[-1]]}
for quality, dataset in sets.items():
    dataset = dataset.replace(about=data.About(f"{name}-{quality}", env.name, low, high))
    print(data.save(options.directory / f"{name}-{quality}", dataset), measured := data.quality(dataset, random))
    about[quality] = str(measured)
(options.directory / f"{name}.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
if options.record:
    figures = [rlzoo.report.Figure(f"mean return of {x}", float(y.episode_returns().mean())) for x, y in sets.items()]
    rlzoo.report.record(f"Datasets of {env.name}", figures)
