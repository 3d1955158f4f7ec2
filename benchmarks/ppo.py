"""Speed of PPO on CartPole-v1 beside Rejax 0.1.3, and of 64 vmapped lanes beside one.

    python benchmarks/ppo.py [--rounds 5] [--updates 100] [--record]

Both train the same network (64-64, swish) on 64 environments × 64 steps with 8 minibatches and 4 epochs, each in a
process of its own, in turn: ours, Rejax, ours, Rejax, … The ratio is taken pair by pair and its median printed.
Rejax needs gymnax 0.0.9, so it lives in a virtual environment of its own, .bench/rejax, which this script makes.
"""

import argparse
import json
import sys

import numpy as np
from peers import in_process
from peers import rejax as rejax_python
from workers.measure import REPEATS, timed

NUM_ENVS, NUM_STEPS, MINIBATCHES, EPOCHS, HIDDEN = 64, 64, 8, 4, (64, 64)
BATCH = NUM_ENVS * NUM_STEPS
LANES = 64


def measure_ours(lanes: int, updates: int) -> dict[str, float]:
    """Steps per second over all lanes (median of repeats) and seconds to compile, in this process."""
    import jax

    import rlzoo
    from rlzoo import ppo

    config = ppo.Config(
        num_envs=NUM_ENVS,
        num_steps=NUM_STEPS,
        num_minibatches=MINIBATCHES,
        num_epochs=EPOCHS,
        hidden=HIDDEN,
        activation="swish",
        normalise_obs=False,
        normalise_reward=False,
    )
    algo = ppo.make(rlzoo.envs.make("gymnax/CartPole-v1"), config)
    measured = timed(algo, lanes, updates)
    memory = measured.program.memory_analysis()
    return {
        "speed": measured.speed * BATCH,
        "compile": measured.compile,
        "metrics_bytes": float(memory.output_size_in_bytes - memory.alias_size_in_bytes),
        "device": jax.devices()[0].device_kind,
    }


# Runs in Rejax's environment: its own training iteration, without its evaluation.
REJAX = f"""
import json, time, jax, numpy as np
from rejax import PPO
updates, repeats = UPDATES, REPEATS
algo = PPO.create(env="CartPole-v1", num_envs={NUM_ENVS}, num_steps={NUM_STEPS}, num_epochs={EPOCHS},
                  num_minibatches={MINIBATCHES}, learning_rate=3e-4, max_grad_norm=0.5, agent_kwargs=dict(
                  hidden_layer_sizes={HIDDEN}, activation="swish"))
state = algo.init_state(jax.random.PRNGKey(0))
train = jax.jit(lambda algo, state: jax.lax.fori_loop(0, updates, lambda _, s: algo.train_iteration(s), state))
began = time.perf_counter()
train = train.lower(algo, state).compile()
compile_seconds = time.perf_counter() - began
speeds = []
for _ in range(repeats + 1):
    began = time.perf_counter()
    state = jax.block_until_ready(train(algo, state))
    speeds.append(updates * {BATCH} / (time.perf_counter() - began))
print(json.dumps(dict(speed=float(np.median(speeds[1:])), compile=compile_seconds)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=100, help="per repeat of one lane")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
    parser.add_argument("--no-peer", action="store_true", help="leave Rejax out")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure_ours(options.worker, options.updates)))
        return

    from rlzoo.report import Figure, record
    from rlzoo.report.record import hardware

    def ours(lanes: int, updates: int) -> dict[str, float]:
        return in_process([sys.executable, __file__, "--worker", str(lanes), "--updates", str(updates)])

    def rejax() -> dict[str, float]:
        script = REJAX.replace("UPDATES", str(options.updates)).replace("REPEATS", str(REPEATS))
        return in_process([str(peer), "-c", script])

    print(hardware())
    figures = []
    if not options.no_peer:
        peer = rejax_python()
        pairs = []
        for number in range(options.rounds):
            pairs.append((ours(1, options.updates), rejax()))
            speeds = [side["speed"] for side in pairs[-1]]
            print(f"round {number + 1}: ours {speeds[0]:,.0f}, Rejax {speeds[1]:,.0f} steps/s", flush=True)
        ratios = [mine["speed"] / theirs["speed"] for mine, theirs in pairs]
        mine, theirs = (np.median([pair[side]["speed"] for pair in pairs]) for side in (0, 1))
        compiles = [np.median([pair[side]["compile"] for pair in pairs]) for side in (0, 1)]
        spread = f"{len(pairs)} pairs, {min(ratios):.2f} to {max(ratios):.2f}"
        figures += [
            Figure("one lane", float(mine), "steps/s", note=f"Rejax 0.1.3: {theirs:,.0f}"),
            Figure("one lane over Rejax", float(np.median(ratios)), "×", bar=">= 1.2", note=spread),
            Figure("compile time", float(compiles[0]), "s", bar="<= 5", note=f"Rejax 0.1.3: {compiles[1]:.2f} s"),
        ]

    costs, alone, together = [], [], []
    few = max(1, options.updates // 16)
    for number in range(options.rounds):
        alone.append(ours(1, options.updates)["speed"])
        together.append(ours(LANES, few))
        costs.append(alone[-1] / together[-1]["speed"])
        print(f"round {number + 1}: {LANES} lanes cost {costs[-1]:.2f} × {LANES} times one lane", flush=True)
    spread = f"{len(costs)} pairs, {min(costs):.2f} to {max(costs):.2f}"
    figures += [
        Figure(
            f"{LANES} lanes", float(np.median([x["speed"] for x in together])), "steps/s", note=together[0]["device"]
        ),
        Figure(f"{LANES} lanes, time over {LANES} × one lane", float(np.median(costs)), "×", bar="<= 1.0", note=spread),
        Figure("metrics that leave jit", together[0]["metrics_bytes"] / (few * LANES), "bytes per update and lane"),
    ]
    print(*figures, sep="\n")
    if options.record:
        print(record("Speed of PPO on CartPole-v1", figures))


if __name__ == "__main__":
    main()
