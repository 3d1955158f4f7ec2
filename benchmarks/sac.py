"""Speed of SAC on Pendulum-v1 beside Rejax 0.1.3, of eight vmapped lanes beside one, and of STAC beside SAC.

    python benchmarks/sac.py [--rounds 5] [--updates 1500] [--record]

All train 2 × 256 hidden units on batches of 256, one environment step and one gradient step per update. Each
measurement is a process of its own; sides take turns (ours, Rejax, ours, Rejax, …), the ratio is taken pair by pair
and its median printed. Rejax needs gymnax 0.0.9, so it lives in .bench/rejax, which this script makes.
"""

import argparse
import json
import sys

import numpy as np
from peers import in_process
from peers import rejax as rejax_python
from workers.measure import REPEATS, timed

LANES = 8
SIZES = {"small": 100_000, "large": 1_000_000}  # capacities


def measure_ours(kind: str, capacity: int, lanes: int, updates: int) -> dict[str, float]:
    """Gradient steps per second over all lanes (median of repeats), seconds to compile, and bytes of the State."""
    import rlzoo
    from rlzoo import sac, stac
    from rlzoo.drivers.memory import size_in_bytes

    sizes = {"capacity": capacity, "warmup": 1_000}
    plain = {"actor_dropout": 0.0, "critic_dropout": 0.0}
    make, config = {
        "sac": (sac.make, lambda: sac.Config(**sizes)),
        "sac, LayerNorm": (sac.make, lambda: sac.Config(**sizes, layer_norm=True)),
        "stac": (stac.make, lambda: stac.Config(**sizes, **plain)),
        "stac, dropout": (stac.make, lambda: stac.Config(**sizes)),
    }[kind]
    measured = timed(make(rlzoo.envs.make("gymnax/Pendulum-v1"), config()), lanes, updates)
    return {"speed": measured.speed, "compile": measured.compile, "bytes": size_in_bytes(measured.state)}


# Runs in Rejax's environment: its own training iteration, without its evaluation.
REJAX = """
import json, time, jax, numpy as np
from rejax import SAC
updates, repeats = UPDATES, REPEATS
algo = SAC.create(env="Pendulum-v1", num_envs=1, num_epochs=1, batch_size=256, buffer_size=CAPACITY, fill_buffer=1000,
                  learning_rate=3e-4, hidden_layer_sizes=(256, 256))
state = algo.init_state(jax.random.PRNGKey(0))
# SAC's layer sizes are silently overwritten if they are given as agent_kwargs, so look at the weights.
assert any(x.shape == (256, 256) for x in jax.tree.leaves(state.actor_ts.params)), "not 2 x 256"
train = jax.jit(lambda algo, state: jax.lax.fori_loop(0, updates, lambda _, s: algo.train_iteration(s), state))
began = time.perf_counter()
train = train.lower(algo, state).compile()
compile_seconds = time.perf_counter() - began
speeds = []
for _ in range(repeats + 1):  # the first fills the buffer to where learning starts, and warms up
    began = time.perf_counter()
    state = jax.block_until_ready(train(algo, state))
    speeds.append(updates / (time.perf_counter() - began))
print(json.dumps(dict(speed=float(np.median(speeds[1:])), compile=compile_seconds)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=1500, help="per repeat of one lane; more than Rejax's warm-up")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
    parser.add_argument("--no-peer", action="store_true", help="leave Rejax out")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure_ours(**json.loads(options.worker))))
        return

    from rlzoo.report import Figure, record
    from rlzoo.report.record import hardware

    def ours(kind: str, capacity: int = SIZES["small"], lanes: int = 1) -> dict[str, float]:
        case = {"kind": kind, "capacity": capacity, "lanes": lanes, "updates": options.updates // lanes}
        return in_process([sys.executable, __file__, "--worker", json.dumps(case)])

    def rejax(capacity: int) -> dict[str, float]:
        script = REJAX.replace("UPDATES", str(options.updates)).replace("REPEATS", str(REPEATS))
        return in_process([str(rejax_python()), "-c", script.replace("CAPACITY", str(capacity))])

    def ratios(what: str, bar: str, first, second, invert: bool = False) -> list[Figure]:
        """Pairs of measurements in turn; the median ratio of their speeds."""
        pairs = []
        for number in range(options.rounds):
            pairs.append((first(), second()))
            print(f"{what}, round {number + 1}: " + ", ".join(f"{x['speed']:,.0f}" for x in pairs[-1]), flush=True)
        speeds = np.array([[x["speed"] for x in pair] for pair in pairs])
        each = speeds[:, 1] / speeds[:, 0] if invert else speeds[:, 0] / speeds[:, 1]
        one, other = np.median(speeds, axis=0)
        note = f"{len(pairs)} pairs, {each.min():.2f} to {each.max():.2f}; {one:,.0f} and {other:,.0f} updates/s"
        return [Figure(what, float(np.median(each)), "×", bar=bar, note=note)]

    print(hardware())
    figures = []
    if not options.no_peer:
        for size, bar in (("small", ">= 1.3"), ("large", ">= 5.0")):
            capacity = SIZES[size]
            what = f"SAC over Rejax 0.1.3, capacity {capacity:,}"
            figures += ratios(what, bar, lambda: ours("sac", capacity), lambda: rejax(capacity))  # noqa: B023
    figures += ratios(
        f"{LANES} lanes, time over {LANES} × one lane",
        "<= 1.0",
        lambda: ours("sac", lanes=LANES),
        lambda: ours("sac"),
        invert=True,
    )
    for stac, bar in (("stac", "<= 0.75"), ("stac, dropout", "<= 1.0")):
        for sac in ("sac", "sac, LayerNorm"):  # STAC has LayerNorm, and so has its paper's SAC
            what = f"time of a step of {stac} over {sac}"
            figures += ratios(what, bar, lambda: ours(stac), lambda: ours(sac), invert=True)  # noqa: B023
    first = ours("sac")
    figures.append(Figure("compile time of SAC", first["compile"], "s"))
    figures.append(Figure("state of one SAC, capacity 100,000", first["bytes"] / 2**20, "MiB"))
    print(*figures, sep="\n")
    if options.record:
        print(record("Speed of SAC and STAC on Pendulum-v1", figures))


if __name__ == "__main__":
    main()
