"""PRDC and A2PR beside BC and TD3+BC on Pendulum's medium and medium-replay data: 8 seeds of each in one program.

    python experiments/prdc_pendulum.py [--steps 20000] [--seeds 8] [--algorithms bc td3_bc prdc a2pr] [--record]

Scores are normalised: 0 is the random policy's return, 100 that of the agent which recorded the data. Bars are the
better score of BC and TD3+BC. Two hours on two cores, most of them A2PR's.
"""

import argparse

import jax
import numpy as np

import rlzoo

DATASETS = ("pendulum-medium", "pendulum-medium-replay")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=20_000, help="gradient steps of the critics")
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--algorithms", nargs="+", default=["bc", "td3_bc", "prdc", "a2pr"])
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

env = rlzoo.envs.make("gymnax/Pendulum-v1")
keys = jax.random.split(jax.random.key(0), options.seeds)
for name in DATASETS:
    dataset = rlzoo.data.load(f"tests/data/{name}.npz")
    curves, scores = {}, {}
    for algorithm in options.algorithms:
        module = rlzoo.ALGORITHMS[algorithm]
        runs = rlzoo.sweep(module.make(env, module.Config(), dataset))
        result = rlzoo.run(runs, keys, rlzoo.updates_for(runs, options.steps), eval_episodes=16)
        score = lambda returns: np.asarray(rlzoo.data.normalised_score(dataset.about, returns)).mean(-1)  # noqa: B023, E731
        curves[algorithm] = result.env_steps, score(result.returns[:, 0])  # [K, S]
        episodes = rlzoo.evaluate(runs, env, result.state, jax.random.key(1), 128)
        scores[algorithm] = score(episodes.returns[0])  # [S], of the last policies
    title = f"Offline on {name}, {options.steps // 1_000}k gradient steps, normalised score"
    rlzoo.report.table(title, scores)
    rlzoo.report.curves(f"runs/offline_{name}.png", curves, title=name)
    base = max((rlzoo.report.iqm(scores[x]) for x in ("bc", "td3_bc") if x in scores), default=-np.inf)
    if options.record:
        figures = []
        for algorithm, each in scores.items():
            bar = f">= {base:.1f}" if algorithm in ("prdc", "a2pr") else ""
            figures.append(rlzoo.report.returns_figures(algorithm, each)[1]._replace(bar=bar))
        rlzoo.report.record(title, figures)
