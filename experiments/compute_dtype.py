"""What products in bfloat16 do to returns, and to speed here: PPO, SAC and TD3+BC in both dtypes, from equal keys.

    python experiments/compute_dtype.py [--seeds 12] [--only "PPO on CartPole-v1"] [--record]

The two train by turns, a tenth of the steps at a time. Figures are deterministic returns; the difference is bfloat16's
less float32's, seed by seed. A processor's speed says nothing of an accelerator's. A quarter of an hour on two cores.
"""

import argparse
import time
from dataclasses import replace

import jax
import numpy as np

import rlzoo
from rlzoo import ppo, sac, td3_bc
from rlzoo.report import Figure, returns_figures
from rlzoo.report.statistics import interval, mean

DTYPES, PARTS = ("float32", "bfloat16"), 10
SMALL = sac.Config(hidden=(64, 64)), sac.presets["classic"].hyper
TASKS = {  # module, structure and numbers, environment, steps
    "PPO on CartPole-v1": (ppo, ppo.presets["classic"], "CartPole-v1", 200_000),
    "PPO on Pendulum-v1": (ppo, ppo.presets["classic"], "Pendulum-v1", 300_000),
    "SAC on Pendulum-v1": (sac, SMALL, "Pendulum-v1", 13_000),
    "TD3+BC on pendulum-medium": (td3_bc, td3_bc.presets["pendulum"], "Pendulum-v1", 20_000),
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--seeds", type=int, default=12)
parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
options = parser.parse_args()

figures, keys = [], jax.random.split(jax.random.key(0), options.seeds)
for task in options.only:
    module, (config, hyper), name, steps = TASKS[task]
    env = rlzoo.envs.make(f"gymnax/{name}")
    given = [rlzoo.data.load("tests/data/pendulum-medium.npz")] if module is td3_bc else []
    runs = [rlzoo.sweep(module.make(env, replace(config, compute_dtype=dtype), *given, hyper)) for dtype in DTYPES]
    states, seconds = [rlzoo.init(one, keys, quiet=True) for one in runs], np.zeros((PARTS, 2))
    updates = rlzoo.updates_for(runs[0], steps) // PARTS
    for part, i in np.ndindex(PARTS, 2):
        began = time.perf_counter()
        states[i], _ = jax.block_until_ready(rlzoo.resume(runs[i], states[i], updates))
        seconds[part, i] = time.perf_counter() - began
    pairs = zip(runs, states, strict=True)
    returns = [
        np.asarray(rlzoo.evaluate(x[0], env, x[1], jax.random.key(1), 128).returns)[0].mean(-1) for x in pairs
    ]  # [S] each

    title, (moved, low, high) = f"{task}, {steps // 1_000}k steps", map(float, interval(returns[1] - returns[0], mean))
    figures += [returns_figures(f"{title}: {dtype}", x)[1] for dtype, x in zip(DTYPES, returns, strict=True)]
    figures.append(Figure(f"{title}: by how much bfloat16 is above, mean", moved, low=low, high=high))
    pace = np.median(seconds[1:, 0] / seconds[1:, 1])  # the first parts compile
    figures.append(Figure(f"{title}: steps per second, bfloat16 over float32", float(pace), "×"))
    print(*figures[-4:], f"{seconds.sum():.0f} s", sep="\n", flush=True)
if options.record:
    rlzoo.report.record("Products in bfloat16 beside float32", figures)
