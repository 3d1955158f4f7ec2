"""QARL beside RARL and SAC on Pendulum-v1: nominal, against the own and a fresh adversary, and under other physics.

    python experiments/qarl_pendulum.py [--iterations 100] [--seeds 8] [--max-force 0.5] [--record]

All seeds of an algorithm are one program, and all protagonists take the same steps and gradient steps. The grid is of
11 masses times 11 lengths, 16 episodes each. Draws the grids, and the course of the curriculum. Bars: QARL's grid mean
and its return against a fresh adversary above SAC's, and its grid mean not below RARL's, by paired differences.
"""

import argparse
from dataclasses import replace

import jax
import numpy as np

import rlzoo
from rlzoo import qarl, report, sac
from rlzoo.envs import adversarial, vary

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--iterations", type=int, default=100)
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--max-force", type=float, default=0.5, help="N m; the protagonist has 2")
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
game = adversarial(rlzoo.envs.make("gymnax/Pendulum-v1"), max_force=options.max_force)
keys, eval_key = jax.random.split(jax.random.key(0), options.seeds), jax.random.key(1)
around = np.linspace(0.5, 1.5, 11)
grid = vary(game.env, {"m": around, "l": around})
attacker = sac.Config(num_envs=8, num_updates=8, hidden=(64, 64), batch_size=128, warmup=2_000, capacity=40_000)
config, hyper = qarl.presets["pendulum"]
tables = {"nominal": {}, "own adversary": {}, "fresh adversary": {}, "grid": {}}
for name, opponent in {"QARL": "quantal", "RARL": "rational", "SAC": "none"}.items():
    runs = rlzoo.sweep(qarl.make(game, replace(config, opponent=opponent), hyper))
    state, metrics = rlzoo.train(runs, keys, options.iterations)
    attacked, alone = rlzoo.worst_case(runs, game, state, jax.random.key(2), 40_000, 64, attacker)
    tables["nominal"][name], tables["fresh adversary"][name] = alone.returns[0], attacked.returns[0]  # [S, 64]
    cells = rlzoo.robustness(runs, game.env, state, eval_key, 16, grid).returns[:, 0].mean(-1).T  # [S, M]
    tables["grid"][name] = cells
    report.heatmap(
        f"runs/qarl_grid_{name}.png", ("l", around), ("m", around), cells.mean(0).reshape(11, 11), title=name
    )
    if opponent != "none":
        own = rlzoo.against(runs, game, state, qarl.adversary(runs), state.params.adversary.actor, eval_key, 64)
        tables["own adversary"][name] = own.returns[0]
    if opponent == "quantal":
        steps = np.arange(1, options.iterations + 1) * runs.steps_per_update
        course = {"shape": (steps, np.asarray(metrics["curriculum/shape"])[:, 0])}
        report.curves("runs/qarl_curriculum.png", course, title="Curriculum", ylabel="shape of the Gamma")
figures = []
for title, rows in tables.items():
    scores = {name: np.asarray(x).mean(-1) for name, x in rows.items()}
    report.table(f"Pendulum-v1, {title}", scores)
    figures += [report.returns_figures(f"{title}, {name}", x)[1] for name, x in scores.items()]
for title, other in (("grid", "SAC"), ("grid", "RARL"), ("fresh adversary", "SAC")):
    point, low, high = map(float, report.paired(*(np.asarray(tables[title][name]) for name in (other, "QARL"))))
    figures.append(report.Figure(f"{title}, QARL less {other}", point, low=low, high=high, bar=">= 0"))
    print(figures[-1])
if options.record:
    report.record("QARL on Pendulum-v1", figures)
