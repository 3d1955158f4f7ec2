"""Cost of a CDSA-style correction: acting with K = 1 beside the base policy alone, and training the models.

    python benchmarks/cdsa.py [--rounds 7] [--record]

Acting: 256 observations of halfcheetah's dimensions, TD3+BC's policy of 2 x 256 units, models of the default sizes and
of brax's preset, and the score of the data themselves, 100,000 rows. Sides take turns; the ratio is taken pair by pair
and its median printed. Training: the models of Pendulum's preset, 10,000 updates, with compiling.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from offline import synthetic

import rlzoo
from rlzoo import cdsa, td3_bc
from rlzoo.report import Figure, record
from rlzoo.report.record import hardware


def seconds(act, actor, obs, key, calls: int = 200) -> float:
    """Of one call."""
    began = time.perf_counter()
    for _ in range(calls):
        action = act(actor, obs, key)
    jax.block_until_ready(action)
    return (time.perf_counter() - began) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
    options = parser.parse_args()
    print(hardware())
    key, figures = jax.random.key(0), []
    env = rlzoo.envs.make("brax/halfcheetah", backend="spring")
    dataset = jax.tree.map(jax.numpy.asarray, synthetic(env, 100_000))
    algo = td3_bc.make(env, td3_bc.Config(), dataset)
    state = rlzoo.init(algo, key)
    obs = dataset.obs[:256]
    base = jax.jit(algo.policy)
    cases = {
        "the default models": cdsa.Config(),
        "the models of brax's preset": cdsa.presets["brax"].config,
        "the data's own score": replace(cdsa.Config(), score="empirical"),
    }
    for what, config in cases.items():
        safe, start = cdsa.corrected(algo, state, cdsa.fit(env, dataset, config, num_updates=2))
        sides = (jax.jit(safe.policy), safe.actor(start)), (base, algo.actor(state))
        for act, actor in sides:  # compiles
            jax.block_until_ready(act(actor, obs, key))
        calls = 20 if config.score == "empirical" else 200
        times = np.array([[seconds(*side, obs, key, calls) for side in sides] for _ in range(options.rounds)])
        ratios, alone = times[:, 0] / times[:, 1], 1e6 * np.median(times[:, 1])
        note = f"{len(ratios)} pairs, {ratios.min():.2f} to {ratios.max():.2f}; base {alone:.0f} us"
        bar = "<= 3" if config == cdsa.Config() else ""
        figures.append(
            Figure(f"acting with {what}, over the base alone", float(np.median(ratios)), "×", bar=bar, note=note)
        )

    data = rlzoo.data.load(Path(__file__).parent.parent / "tests" / "data" / "pendulum-medium.npz")
    pendulum = rlzoo.envs.make("gymnax/Pendulum-v1")
    began = time.perf_counter()
    jax.block_until_ready(cdsa.fit(pendulum, data, *cdsa.presets["pendulum"], num_updates=10_000).models)
    figures.append(
        Figure(
            "training the models of Pendulum's preset, 10,000 updates", time.perf_counter() - began, "s", bar="<= 60"
        )
    )
    print(*figures, sep="\n")
    if options.record:
        print(record("Cost of a CDSA-style correction", figures))


if __name__ == "__main__":
    main()
