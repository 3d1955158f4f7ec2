"""What saving in the background costs, at one checkpoint a minute.

    python benchmarks/checkpoints.py [--seconds 10] [--rounds 12] [--record]

In turn: a chunk of updates that takes so many seconds, and the same with a save before it, whose copying is waited for
and whose writing goes on beside the chunk. The median difference of the pairs, in seconds, is one save's cost, and its
share of a minute the figure: chunks of a minute differ from each other by more than a save costs. PPO on CartPole-v1,
64 agents; SAC on Pendulum-v1, four agents with replay buffers of a million transitions, full of random numbers, which
cannot be compressed.
"""

import argparse
import tempfile
import time

import jax
import numpy as np

import rlzoo
from rlzoo import ppo, sac
from rlzoo.drivers.checkpoint import Checkpoints
from rlzoo.drivers.memory import size_in_bytes
from rlzoo.report import Figure, interval, record
from rlzoo.report.record import hardware


def noise(x: jax.Array) -> jax.Array:
    """As random as an array of its kind can be."""
    if x.dtype == bool:
        return jax.random.bernoulli(jax.random.key(0), shape=x.shape)
    return jax.random.normal(jax.random.key(0), x.shape, x.dtype)


def median(x: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.median(x, axis=axis)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a chunk")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
    options = parser.parse_args()
    print(hardware())
    cartpole, pendulum = (rlzoo.envs.make(f"gymnax/{name}") for name in ("CartPole-v1", "Pendulum-v1"))
    contestants = {
        "PPO, 64 agents": (ppo.make(cartpole), 64),
        "SAC, 4 agents with 1M transitions": (sac.make(pendulum, sac.Config(capacity=1_000_000)), 4),
    }
    figures = []
    for name, (algo, num_seeds) in contestants.items():
        runs = rlzoo.sweep(algo)
        state = rlzoo.init(runs, jax.random.split(jax.random.key(0), num_seeds))
        size = size_in_bytes(state) / 2**20
        if hasattr(state, "replay"):
            state = state._replace(replay=jax.tree.map(noise, state.replay))
        chunk = 2
        for wanted in (min(2.0, options.seconds), options.seconds):
            state = jax.block_until_ready(rlzoo.resume(runs, state, chunk))[0]  # compiles
            began = time.perf_counter()
            state = jax.block_until_ready(rlzoo.resume(runs, state, chunk))[0]
            chunk = max(chunk, round(wanted / (time.perf_counter() - began) * chunk))
        with tempfile.TemporaryDirectory() as directory, Checkpoints(directory, runs) as checkpoints:
            checkpoints.save(state)  # imports orbax, and compiles the checksums
            state = jax.block_until_ready(rlzoo.resume(runs, state, chunk))[0]
            seconds: dict[bool, list[float]] = {True: [], False: []}
            waited = []
            for saving in [True, False] * options.rounds:
                began = time.perf_counter()
                if saving:
                    checkpoints.save(state)
                    waited.append(time.perf_counter() - began)
                state = jax.block_until_ready(rlzoo.resume(runs, state, chunk))[0]
                seconds[saving].append(time.perf_counter() - began)
        cost = 100 / 60 * (np.array(seconds[True]) - np.array(seconds[False]))
        point, low, high = (float(x) for x in interval(cost, median))
        what = f"{name}, {size:.0f} MiB: share of a minute that a save costs"
        note = f"{options.rounds} pairs of chunks of {np.median(seconds[False]):.0f} s"
        figures.append(Figure(what, point, "%", low, high, bar="<= 3", note=note))
        what = f"{name}: of it waited for, before training goes on"
        figures.append(Figure(what, float(100 / 60 * np.median(waited)), "%", note=f"{np.median(waited):.2f} s"))
        print(*figures[-2:], sep="\n", flush=True)
    if options.record:
        print(record("Cost of checkpoints", figures))


if __name__ == "__main__":
    main()
