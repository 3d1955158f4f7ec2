"""PRDC and A2PR beside BC, TD3+BC and IQL on recorded data: all seeds of each in one program.

    python experiments/prdc_scores.py [--data FILE ...] [--steps 20000] [--seeds 8] [--record]

Scores are normalised: 0 is the random policy's return, 100 that of the agent which recorded the data. Bars are the
better score of BC and TD3+BC. Eight minutes on two cores. For brax record the data first, with make_datasets.py, and
take --data data/hopper-medium.npz --steps 100000: hours on two cores, most of them A2PR's. Called again it goes on.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

import rlzoo
from rlzoo.drivers.named import preset_for

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
own = [f"tests/data/pendulum-{quality}.npz" for quality in ("medium", "medium-replay")]
parser.add_argument("--data", nargs="+", type=Path, default=[Path(path) for path in own])
parser.add_argument("--env", help="to evaluate in; default: the one that recorded the data")
parser.add_argument("--steps", type=int, default=20_000, help="gradient steps of the critics")
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--algorithms", nargs="+", default=["bc", "td3_bc", "iql", "prdc", "a2pr"])
parser.add_argument("--directory", type=Path, default=Path("runs/prdc_scores"))
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

keys = jax.random.split(jax.random.key(0), options.seeds)
for path in options.data:
    dataset = rlzoo.data.load(path)
    name = options.env or dataset.about.env  # of brax with the backend
    env = rlzoo.envs.make(name)
    curves, scores = {}, {}
    for algorithm in options.algorithms:
        module = rlzoo.ALGORITHMS[algorithm]
        config, hyper = module.presets[preset_for(name, module.presets, path.name)]
        runs = rlzoo.sweep(module.make(env, config, dataset, hyper))
        folder = options.directory / f"{path.stem}_{algorithm}_{options.steps}"
        begun = (folder / "checkpoints").exists()
        num_updates = rlzoo.updates_for(runs, options.steps)
        result = rlzoo.run(runs, keys, num_updates, directory=folder, resume=begun, eval_episodes=16, sinks=("csv",))
        score = lambda returns: np.asarray(rlzoo.data.normalised_score(dataset.about, returns))  # noqa: B023, E731
        steps, returns = rlzoo.report.sinks.series(folder / "log.csv", "eval/return")  # [K], [K, 1, S]
        curves[algorithm] = steps, score(returns[:, 0])  # [K, S]
        episodes = rlzoo.evaluate(runs, env, result.state, jax.random.key(1), 128)
        scores[algorithm] = score(episodes.returns[0].mean(-1))  # [S], of the last policies
    title = f"Offline on {dataset.about.name}, {options.steps // 1_000}k gradient steps, normalised score"
    if not {"bc", "td3_bc"} & set(scores):
        title += f": {', '.join(scores)}"  # without those that set the bar, a record of its own
    rlzoo.report.table(title, scores)
    rlzoo.report.curves(f"runs/offline_{dataset.about.name}.png", curves, title=dataset.about.name)
    base = max((rlzoo.report.iqm(scores[x]) for x in ("bc", "td3_bc") if x in scores), default=-np.inf)
    if options.record:
        figures = []
        for algorithm, each in scores.items():
            bar = f">= {base:.1f}" if algorithm in ("prdc", "a2pr") and np.isfinite(base) else ""
            figures.append(rlzoo.report.returns_figures(algorithm, each)[1]._replace(bar=bar))
        rlzoo.report.record(title, figures)
