"""One CPL update beside the machine's float32 matmul peak, which is measured in the same process.

    python benchmarks/cpl.py [--rounds 7] [--record]

96 comparisons of segments of 64 steps, observations of 35, actions of 4, two layers of 512, dropout: 12,288 rows.
The products of an update are 3 x 2 x rows x weights; the peak is that of square products of 2,048. Rounds take turns.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import rlzoo
from rlzoo import cpl
from rlzoo.data import preferences
from rlzoo.report import Figure, record
from rlzoo.report.record import hardware
from rlzoo.types import Box, Env

SEGMENTS, LENGTH, OBS, ACTIONS, BATCH = 4_000, 64, 35, 4, 96


def task() -> tuple[Env, preferences.Preferences]:
    keys = jax.random.split(jax.random.key(0), 3)
    obs = jax.random.normal(keys[0], (SEGMENTS, LENGTH, OBS))
    action = jax.random.uniform(keys[1], (SEGMENTS, LENGTH, ACTIONS), minval=-1.0)
    drawn = preferences.Segments(obs, action, jax.random.normal(keys[2], (SEGMENTS, LENGTH)))
    line, box = (Box(np.full(n, -x, np.float32), np.full(n, x, np.float32)) for n, x in ((OBS, np.inf), (ACTIONS, 1.0)))
    env = Env("own/spaces", None, None, {}, line, box, LENGTH)
    return env, preferences.compare(drawn, preferences.reward_score(drawn))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
    options = parser.parse_args()
    print(hardware())
    env, data = task()
    square = jax.random.normal(jax.random.key(1), (2048, 2048))
    product = jax.jit(lambda x: x @ x)

    def peak() -> float:
        """FLOP/s."""
        began = time.perf_counter()
        for _ in range(10):
            result = product(square)
        jax.block_until_ready(result)
        return 10 * 2 * 2048**3 / (time.perf_counter() - began)

    product(square).block_until_ready()
    weights = OBS * 512 + 512 * 512 + 512 * ACTIONS
    flop = 3 * 2 * 2 * BATCH * LENGTH * weights - 2 * 2 * BATCH * LENGTH * OBS * 512  # no gradient of the observations
    figures = []
    for what, config in {"": cpl.Config(), ", without dropout": cpl.Config(dropout=0.0)}.items():
        algo = cpl.make(env, config, data)
        state, _ = rlzoo.train(algo, jax.random.key(0), 10)
        shares, speeds = [], []
        for _ in range(options.rounds):
            state = jax.tree.map(jnp.copy, state)
            jax.block_until_ready(state)
            began = time.perf_counter()
            state, _ = jax.block_until_ready(rlzoo.resume(algo, state, 10))
            speeds.append(10 / (time.perf_counter() - began))
            shares.append(speeds[-1] * flop / peak())
        note = f"{len(shares)} rounds, {min(shares):.2f} to {max(shares):.2f}; {np.median(speeds):.1f} updates/s"
        bar = ">= 0.5" if config.dropout else ""
        figures.append(
            Figure(f"matmul peak that a CPL update reaches{what}", float(np.median(shares)), "×", bar=bar, note=note)
        )
    figures.append(Figure("the peak, of products of 2,048", peak() / 1e9, "GFLOP/s"))
    print(*figures, sep="\n")
    if options.record:
        print(record("Speed of CPL, 12,288 rows an update", figures))


if __name__ == "__main__":
    main()
