"""What rlzoo does, in under two minutes on two cores: 64 PPO agents on CartPole in one compiled program.

    make demo
    python experiments/demo.py --record

8 learning rates × 8 seeds, 100k steps each, evaluated, drawn, saved, loaded and resumed.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import rlzoo
from rlzoo import ppo

STEPS, SEEDS = 100_000, 8
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--record", action="store_true", help="write how long it took into docs/results.md")
options, started = parser.parse_args(), time.monotonic()
rates = jnp.logspace(-5, -1.5, 8)
number = 1 + sum(1 for _ in Path("runs").glob("demo_*"))
directory = Path("runs") / f"demo_{number}"

env = rlzoo.envs.make("gymnax/CartPole-v1")
algo = ppo.make(env, ppo.Config(num_epochs=4))  # of 10: the demo is to be short
runs = rlzoo.sweep(algo, algo.hyper._replace(learning_rate=rates))
keys = jax.random.split(jax.random.key(0), SEEDS)
num_updates = rlzoo.updates_for(runs, STEPS)
print(f"{len(rates)} learning rates × {SEEDS} seeds = {len(rates) * SEEDS} agents, {STEPS:,} steps each, one program")

began = time.monotonic()
result = rlzoo.run(runs, keys, num_updates, directory=directory, sinks=("csv",), report_every=5)
seconds = time.monotonic() - began
print(f"trained and evaluated {len(rates) * SEEDS * STEPS:,} steps in {seconds:.0f} s, compiling included\n")

# Save, load and resume: the run goes on as if it had never stopped.
checkpoints = directory / "checkpoints"
saved = rlzoo.load(checkpoints, runs)
assert int(saved.step) == num_updates
more, _ = rlzoo.resume(runs, saved, 5)
print(f"resumed from update {num_updates} to {int(more.step)}")

final = np.asarray(rlzoo.evaluate(runs, env, result.state, jax.random.key(1), 64).returns).mean(-1)  # [H, S]
labels = [f"learning rate {rate:.1e}" for rate in rates]
curves = {label: (result.env_steps, result.returns[:, h].mean(-1)) for h, label in enumerate(labels)}
title = f"PPO on CartPole-v1, {SEEDS} seeds"
rlzoo.report.curves(directory / "curves.png", curves, title=title)
rlzoo.report.sensitivity(directory / "sensitivity.png", "learning_rate", np.asarray(rates), final, title=title)
rlzoo.report.table(f"Return after {STEPS:,} steps", dict(zip(labels, final, strict=True)))
print(
    f"curves       {directory / 'curves.png'}\nsensitivity  {directory / 'sensitivity.png'}\ncheckpoint   {checkpoints}"
)
if options.record:
    took = rlzoo.report.Figure("all of it but imports", time.monotonic() - started, "s", bar="<= 120")
    rlzoo.report.record("The demo", [took])
