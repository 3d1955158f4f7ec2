"""QARL beside RARL and SAC: nominal, against the own and a fresh adversary, and under other physics.

    python experiments/qarl_robustness.py [--task pendulum] [--iterations 150] [--seeds 8] [--record]

Pendulum-v1 under a torque, or brax's inverted double pendulum (mjx), its upper pole pushed along x and z. Bars, seed by
seed: QARL's grid mean and return against a fresh adversary above SAC's, its grid mean not below RARL's.
"""

import argparse
from dataclasses import replace

import jax
import numpy as np

import rlzoo
from rlzoo import qarl, report, sac
from rlzoo.envs import adversarial, vary

SHARE = np.linspace(0.5, 1.5, 11)
LOADS = {"mass pole2": 4.2 * np.geomspace(0.25, 4.0, 11), "gravity": -9.81 * SHARE}
TASKS = {  # environment, its options, limit of the push (N m or N), and physics of the grid
    "pendulum": ("gymnax/Pendulum-v1", {}, 0.5, {"m": SHARE, "l": SHARE}),
    "double_pendulum": ("brax/inverted_double_pendulum", {"backend": "mjx", "horizon": 200}, 1.0, LOADS),
}
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--task", choices=TASKS, default="pendulum")
parser.add_argument("--iterations", type=int, default=150)
parser.add_argument("--seeds", type=int, default=8)
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
env, kwargs, max_force, physics = TASKS[options.task]
game = adversarial(rlzoo.envs.make(env, **kwargs), max_force=max_force)
(y, x), grid = physics.items(), vary(game.env, physics)
keys, eval_key = jax.random.split(jax.random.key(0), options.seeds), jax.random.key(1)
attacker = sac.Config(num_envs=8, num_updates=8, hidden=(64, 64), batch_size=128, warmup=2_000, capacity=40_000)
config, hyper = qarl.presets[options.task]
picture = f"{'docs/pictures' if options.record else 'runs'}/qarl_{options.task}"
tables = {"nominal": {}, "own adversary": {}, "fresh adversary": {}, "grid": {}}
for name, opponent in {"QARL": "quantal", "RARL": "rational", "SAC": "none"}.items():
    runs = rlzoo.sweep(qarl.make(game, replace(config, opponent=opponent), hyper))
    state, metrics = rlzoo.train(runs, keys, options.iterations)
    attacked, alone = rlzoo.worst_case(runs, game, state, jax.random.key(2), 40_000, 64, attacker)
    tables["nominal"][name], tables["fresh adversary"][name] = alone.returns[0], attacked.returns[0]  # [S, 64]
    tables["grid"][name] = cells = rlzoo.robustness(runs, game.env, state, eval_key, 16, grid).returns[:, 0].mean(-1).T
    report.heatmap(f"{picture}_{name}.png", x, y, cells.mean(0).reshape(len(y[1]), -1), title=name)
    if opponent != "none":
        own = rlzoo.against(runs, game, state, qarl.adversary(runs), state.params.adversary.actor, eval_key, 64)
        tables["own adversary"][name] = own.returns[0]
    if opponent == "quantal":
        course = np.arange(1, options.iterations + 1) * runs.steps_per_update, metrics["curriculum/shape"][:, 0]
        report.curves(f"{picture}_curriculum.png", {"shape": course}, ylabel="shape of the Gamma")
report.grids(f"{game.env.name}, {y[0]} x {x[0]}", tables["grid"])
figures = [report.returns_figures(f"{t}, {n}", z.mean(-1))[1] for t, rows in tables.items() for n, z in rows.items()]
for title, other in (("grid", "SAC"), ("grid", "RARL"), ("fresh adversary", "SAC")):
    gain = np.asarray(tables[title]["QARL"] - tables[title][other]).mean(-1)  # [S]: the same seeds and episodes
    point, *ends = map(float, report.interval(gain, np.mean))
    figures.append(report.Figure(f"{title}, QARL less {other}", point, "", *ends, bar=">= 0"))
print(*figures, sep="\n")
if options.record:
    report.record(f"QARL on {options.task.replace('_', ' ')}, {options.iterations} iterations", figures)
