"""Every head on MinAtar, on DQN: what "Stop Regressing" claims of Atari, in small.

    python benchmarks/papers/heads.py [--games Breakout Freeway] [--heads scalar hl_gauss] [--steps 500000] [--record]

The preset for MinAtar, double, one head after the other; values lie in the bins of [-10, 10], as the paper's, and the
share of targets beyond them is said. A squared error has the lower of two rates, as in the paper. Returns are of greedy
policies, 64 episodes a seed. Curves are drawn for each game.

What is trained is kept under runs/ and goes on where it was cut off. Fifteen minutes a game and head on two cores.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from trained import kept

import rlzoo
from rlzoo import dqn, report

GAMES, HEADS = (
    ("Breakout", "Freeway", "Asterix", "SpaceInvaders"),
    ("scalar", "mean", "hl_gauss", "two_hot", "c51", "quantile"),
)
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--games", nargs="+", choices=GAMES, default=GAMES)
parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS)
parser.add_argument("--steps", type=int, default=500_000)
parser.add_argument("--seeds", type=int, default=4)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
preset = dqn.presets["minatar"]
slow = preset.hyper._replace(learning_rate=6.25e-5, adam_eps=1.5e-4)  # the paper's for a squared error
home = Path(f"runs/heads_{options.steps}_steps_{options.seeds}_seeds")


def trained(game: str, head: str) -> dict[str, np.ndarray]:
    """Returns [S], the curve's steps [K] and returns [K, S], and the share of targets beyond the bins."""
    env = rlzoo.envs.make(f"gymnax/{game}-MinAtar")
    config = replace(preset.config, head=head, double=True)
    runs = rlzoo.sweep(dqn.make(env, config, slow if head in ("scalar", "mean") else preset.hyper))
    keys, directory = jax.random.split(jax.random.key(0), options.seeds), home / f"{game} {head}"
    num_updates = rlzoo.updates_for(runs, options.steps)
    settings = {"eval_episodes": 8, "report_every": -(-num_updates // 20), "sinks": ("csv",), "keep": 1}
    run = rlzoo.run(runs, keys, num_updates, directory=directory, resume=True, **settings)
    if run.interrupted:
        raise SystemExit(f"{directory} was cut off; the same command goes on with it")
    steps, curve = report.series(directory / "log.csv", "eval/return")
    returns = rlzoo.evaluate(runs, env, run.state, jax.random.key(1), 64).returns
    clipped = run.metrics["value/clipped"][-1].mean() if "value/clipped" in run.metrics else 0.0
    return {"returns": np.asarray(returns)[0].mean(-1), "steps": steps, "curve": curve[:, 0], "clipped": clipped}


for game in options.games:
    found = {head: kept(home / f"{game} {head}.npz", lambda: trained(game, head)) for head in options.heads}  # noqa: B023
    title = f"DQN's heads on {game}-MinAtar, {options.steps // 1_000}k steps"
    report.curves(home / f"{game}.png", {head: (x["steps"], x["curve"]) for head, x in found.items()}, title=title)
    figures = []
    for head, x in found.items():
        mean, iqm = report.returns_figures(head, x["returns"])
        figures += [mean, iqm._replace(note=f"{iqm.note}; {100 * float(x['clipped']):.2g}% of targets beyond the bins")]
    print(title, *figures, sep="\n", flush=True)
    if options.record:
        report.record(title, figures)
