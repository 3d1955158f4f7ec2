"""QARL's own test: cartpole balance and swing-up under forces on the pole, beside what it was compared with.

    python benchmarks/papers/qarl.py [--task balance] [--only QARL RARL SAC] [--hidden 128 128] [--record]

Reddi et al. 2024 (arXiv:2311.01642): the code's numbers, 200 iterations of 5 + 5 episodes, 8 paired seeds. Every policy
is tried without a push, against a fresh adversary (SAC's, 2 x 64 wide, 40,000 steps), on the code's grid of masses,
and, where it was trained with one that pushes, against its own. Actions are sampled, the adversaries' too. CAT adds up
to 2 half widths to actions; MixedNE-LD, which mixes actions, learns from as many steps as the protagonists.

Bars, seed by seed, 95% intervals: QARL above SAC against the fresh adversary and on the grid's mean, and not below RARL
on either. Pendulum is a task of ours, with rewards of 1 + r / 16.3, so that the code's numbers mean the same there.

What is trained is kept under runs/ and goes on where it was cut off; figures are of all that have ended.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
from trained import device_a_core, gain, gone_on, kept, mean

import rlzoo
from rlzoo import mixed_ne, qarl, report, sac
from rlzoo.envs import adversarial, vary

ITERATIONS, SEEDS, EPISODES = 200, 8, 64
SHARE = np.linspace(0.5, 1.5, 11)
TASKS = {  # environment, and masses of the grid in kg, or lengths in m
    "balance": ("rlzoo/CartpoleBalance-v0", {"pole_mass": np.linspace(1.0, 20.0, 11), "cart_mass": SHARE}),
    "swingup": ("rlzoo/CartpoleSwingup-v0", {"pole_mass": np.linspace(0.05, 0.15, 11), "cart_mass": SHARE}),
    "pendulum": ("gymnax/Pendulum-v1", {"m": SHARE, "l": SHARE}),
}
NAMES = ("QARL", "RARL", "SAC", "QARL, linear", "CAT", "MixedNE-LD")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--task", choices=TASKS, default="balance")
parser.add_argument("--only", nargs="*", choices=NAMES, default=NAMES, help="train these (default: all)")
parser.add_argument("--hidden", nargs="+", type=int, default=[256, 256, 256], help="widths; the code's are 256 256 256")
parser.add_argument("--side-by-side", action="store_true", help="five episodes at a time, where the code has one")
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()
device_a_core(SEEDS)


def in_unit_rewards(step):
    """Pendulum's step with rewards in [0, 1], where its own are in [-16.3, 0]."""

    def scaled(*arguments):
        state, now = step(*arguments)
        return state, now._replace(reward=1.0 + now.reward / 16.3)

    return scaled


task, physics = TASKS[options.task]
env = rlzoo.envs.make(task)
game = adversarial(env)
on_actions = adversarial(env, on="action", max_force=float(game.env.params.max_force))  # as the code, in half widths
if options.task == "pendulum":
    env = env._replace(step=in_unit_rewards(env.step))
    game, on_actions = (
        x._replace(step=in_unit_rewards(x.step), env=x.env._replace(step=in_unit_rewards(x.env.step)))
        for x in (game, on_actions)
    )
preset = qarl.presets["classic"]
size = " x ".join(map(str, options.hidden)) + ", side by side" * options.side_by_side
form = {"hidden": tuple(options.hidden), "num_envs": preset.config.num_episodes if options.side_by_side else 1}
home = Path("runs") / f"qarl {options.task} {size}".replace(", ", " ").replace(" ", "_")
attacker = sac.Config(num_envs=8, num_updates=8, hidden=(64, 64), batch_size=128, warmup=2_000, capacity=40_000)
grid = vary(game.env, physics)
keys, eval_key = jax.random.split(jax.random.key(0), SEEDS), jax.random.key(1)


def made(name: str) -> tuple[rlzoo.types.Algorithm, int]:
    """An algorithm by its name in the tables, as a sweep, and the updates that it takes."""
    if name == "MixedNE-LD":
        config, hyper = mixed_ne.presets["classic"]
        config = replace(config, num_updates=form["num_envs"], capacity=preset.config.capacity, **form)
        algo = mixed_ne.make(env, config, hyper)
        steps = ITERATIONS * preset.config.num_episodes * env.horizon - algo.warmup_steps
        return rlzoo.spread(rlzoo.sweep(algo)), steps // algo.steps_per_update
    other = {"RARL": "rarl", "SAC": "sac", "QARL, linear": "linear", "CAT": "cat"}.get(name, "classic")
    config = replace(qarl.presets[other].config, **form)
    algo = qarl.make(on_actions if name == "CAT" else game, config, preset.hyper)
    return rlzoo.spread(rlzoo.sweep(algo)), ITERATIONS


def tried(name: str) -> dict[str, np.ndarray]:
    """Returns [S, ...] of what is trained, or gone on with, and then tried under everything."""
    algo, updates = ALGORITHMS[name]
    run = gone_on(algo, keys, updates, home / name)
    attacked, alone = rlzoo.worst_case(
        algo, game, run.state, jax.random.key(2), 40_000, EPISODES, attacker, deterministic=False
    )
    found = {"no push": alone.returns[0], "fresh adversary": attacked.returns[0]}
    cells = rlzoo.robustness(algo, game.env, run.state, eval_key, 1, grid, deterministic=False)
    found["grid"] = cells.returns[:, 0, :, 0].T
    if name in ("QARL", "QARL, linear", "RARL"):
        adversary = qarl.adversary(algo), run.state.params.adversary.actor
        own = rlzoo.against(algo, game, run.state, *adversary, eval_key, EPISODES, deterministic=False)
        found["own adversary"] = own.returns[0]
    return {trial: np.asarray(returns) for trial, returns in found.items()}


ALGORITHMS = {name: made(name) for name in options.only}
for name in options.only:
    kept(home / name / "returns.npz", partial(tried, name))
tables: dict[str, dict[str, np.ndarray]] = {}
for name in NAMES:
    for trial, returns in (kept(home / name / "returns.npz") or {}).items():
        tables.setdefault(trial, {})[name] = returns
figures = [mean(f"{trial}, {name}", x.mean(-1)) for trial, rows in tables.items() for name, x in rows.items()]
for trial in ("fresh adversary", "grid"):
    rows = {name: x.mean(-1) for name, x in tables.get(trial, {}).items()}  # [S]: the same seeds and episodes
    for other, above in (("SAC", True), ("RARL", False)):
        if {"QARL", other} <= set(rows):
            figures.append(gain(f"{trial}, QARL less {other}", rows["QARL"], rows[other], above))
if (log := home / "QARL" / "log.csv").exists():  # the curriculum's course, and how strong the adversary is by then
    for what, name in {
        "shape": "curriculum/shape",
        "return": "episode/return",
        "discounted": "curriculum/return",
    }.items():
        at, course = report.series(log, name)  # [K], [K, 1, S]
        means, when = course[:, 0].mean(-1), at * ITERATIONS // at[-1]
        said = ", ".join(f"{y:.3g} after {x}" for x, y in zip(when[::4], means[::4], strict=True))
        figures.append(report.Figure(f"QARL in training, {what}", float(means[-1]), note=f"iterations: {said}"))
print(*figures, sep="\n")
if options.record:
    print(report.record(f"QARL's own test: {options.task}, {size}", figures))
    for name, cells in tables.get("grid", {}).items():
        (y, x), file = physics.items(), f"docs/pictures/{home.name}_{name.replace(', ', '_')}.png"
        report.heatmap(file, x, y, cells.mean(0).reshape(len(y[1]), len(x[1])), title=name)
