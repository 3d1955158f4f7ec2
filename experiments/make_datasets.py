"""Record datasets named as D4RL's: random, medium-replay, medium, medium-expert and expert, by one SAC agent.

    python experiments/make_datasets.py [--env gymnax/Pendulum-v1] [--rows 20000] [--steps 20000] [--record]

medium is the first policy at a third of the way from the random to the last policy's return, medium-replay everything
seen until then, expert the last policy. Their mean returns are written as reference scores. A minute for Pendulum;
for brax/hopper, halfcheetah and walker2d take --rows 100000 --steps 1000000, and a GPU.
"""

import argparse
from pathlib import Path

import jax

import rlzoo
from rlzoo import data, sac
from rlzoo.cli import preset_for
from rlzoo.drivers.train import steps_after

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--env", default="gymnax/Pendulum-v1")
parser.add_argument("--rows", type=int, default=20_000, help="of random, medium and expert; medium-expert has both")
parser.add_argument("--steps", type=int, default=20_000, help="that SAC is trained for")
parser.add_argument("--directory", type=Path, default=Path("data"))
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

env = rlzoo.envs.make(options.env)
algo = sac.make(env, *sac.presets[preset_for(options.env, sac.presets)])
train_key, eval_key, data_key = jax.random.split(jax.random.key(0), 3)
states, scores = [], []
state = rlzoo.init(algo, train_key)
for _ in range(40):
    state, _ = rlzoo.resume(algo, state, rlzoo.updates_for(algo, options.steps) // 40)
    states.append(jax.tree.map(lambda x: x.copy(), state))
    scores.append(float(rlzoo.evaluate(algo, env, state, eval_key, 64).returns.mean()))
    print(f"{steps_after(algo, int(state.step)):,} steps: return {scores[-1]:.1f}", flush=True)

random = data.collect(env, None, data_key, options.rows, 20)
low, high = float(random.episode_returns().mean()), scores[-1]
name = env.name.partition("/")[2].split()[0].partition("-v")[0].lower()
medium = next(i for i, score in enumerate(scores) if score >= low + (high - low) / 3)

act = lambda actor: lambda obs, key: algo.policy(actor, obs, key)  # noqa: E731
recorded = lambda state: data.collect(env, act(algo.actor(state)), data_key, options.rows, 20)  # noqa: E731
seen = steps_after(algo, int(states[medium].step))
replay = data.from_replay(env, states[medium].replay, seen, algo.config.num_envs)
sets, figures = {"random": random, "medium-replay": replay}, []
sets |= {"medium": recorded(states[medium]), "expert": recorded(states[-1])}
sets["medium-expert"] = data.concatenate(sets["medium"], sets["expert"])
for quality, dataset in sets.items():
    dataset = dataset.replace(about=data.About(f"{name}-{quality}", env.name, low, high))
    path = data.save(options.directory / f"{name}-{quality}", dataset)
    print(f"{path}, {path.stat().st_size / 2**20:.1f} MiB: {(measured := data.quality(dataset, random))}")
    note = f"{measured.num_rows:,} rows, TQ {measured.trajectory_quality:.2f}, SACo {measured.coverage:.2f}"
    figures.append(rlzoo.report.Figure(f"{quality}: mean return", float(measured.returns.mean()), note=note))
if options.record:
    rlzoo.report.record(f"Datasets of {env.name}", figures)
