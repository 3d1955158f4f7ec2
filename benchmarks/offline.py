"""Speed of the offline algorithms on 100,000 rows of halfcheetah's dimensions, beside TD3+BC.

    python benchmarks/offline.py [--rounds 5] [--rows 100000] [--updates 400] [--record]

All use batches of 256 and the papers' networks. PRDC searches by its table, exactly (table, and brute force for what is
not certified), and by brute force. A step is one critic step with its share of the policy's. Each measurement is a
process of its own; sides take turns, the ratio to TD3+BC is taken pair by pair and its median printed. The data are
synthetic: smooth paths of 17 dimensions that follow 6 hidden ones, and actions that depend on them.
"""

import argparse
import json
import sys
import time

import numpy as np
from peers import in_process
from scipy.signal import lfilter
from workers.measure import timed

KINDS = {  # what is measured: bar of its time over TD3+BC's
    "prdc, table": "<= 2",
    "prdc, exact": "",
    "prdc, brute": "<= 6",
    "a2pr": "<= 4",
}
# (what, rows): steps per second of the authors' PyTorch code on two such cores and data, and our bar over it. Their
# PRDC searches a KD-tree in 23 dimensions. The rates were given with the bars: no script here measures them.
ORIGINALS = {
    ("prdc, table", 100_000): (6.5, ">= 25"),
    ("prdc, table", 1_000_000): (0.3, ">= 300"),
    ("prdc, exact", 100_000): (6.5, ">= 10"),
    ("a2pr", 100_000): (29.0, ">= 1.5"),
}


def synthetic(env, num_rows: int, seed: int = 0):
    """A dataset of episodes of 1,000 steps."""
    from rlzoo.data import About, Dataset

    rng = np.random.default_rng(seed)
    obs_size, num_actions, hidden = env.obs_space.shape[0], env.action_space.shape[0], 6
    noise = 0.3 * rng.normal(size=(-(-num_rows // 1000), 1000, hidden))
    paths = lfilter([1.0], [1.0, -0.95], noise, axis=1).reshape(-1, hidden)  # each episode's begins anew
    paths = np.concatenate([np.zeros((1, hidden)), paths])[: num_rows + 1]
    mix, steer = rng.normal(size=(hidden, obs_size)), rng.normal(size=(obs_size, num_actions)) / obs_size
    obs = np.tanh(paths @ mix) + 0.1 * rng.normal(size=(num_rows + 1, obs_size))
    action = np.tanh(obs[:-1] @ steer + 0.3 * rng.normal(size=(num_rows, num_actions)))
    last = np.arange(num_rows) % 1000 == 999
    reward, terminated = paths[:-1, 0], np.zeros(num_rows, bool)
    arrays = (obs[:-1], action, reward, obs[1:])
    return Dataset(*(np.asarray(x, np.float32) for x in arrays), terminated, last, About("synthetic"))


def measure(kind: str, rows: int, updates: int) -> dict[str, float]:
    """Critic steps per second (median of repeats), seconds to prepare and to compile, and bytes of the program."""
    import jax

    import rlzoo

    name, _, search = kind.partition(", ")
    module = rlzoo.ALGORITHMS[name]
    config = module.Config(search=search) if search else module.Config()
    env = rlzoo.envs.make("brax/halfcheetah", backend="spring")
    dataset = jax.tree.map(jax.numpy.asarray, synthetic(env, rows))
    began = time.perf_counter()
    algo = module.make(env, config, dataset)
    jax.block_until_ready(algo.task)
    prepare = time.perf_counter() - began
    num_updates = rlzoo.updates_for(algo, updates)
    measured = timed(algo, 1, num_updates)
    result = {"speed": measured.speed * updates / num_updates, "prepare": prepare, "compile": measured.compile}
    result |= {"temporary": measured.program.memory_analysis().temp_size_in_bytes}
    if search == "table":
        result |= module.exact_share(algo, measured.state, jax.random.key(1))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--updates", type=int, default=400, help="critic steps per repeat")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help="what to measure"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(**json.loads(options.worker))))
        return

    from rlzoo.report import Figure, record
    from rlzoo.report.record import hardware

    def run(kind: str) -> dict[str, float]:
        case = {"kind": kind, "rows": options.rows, "updates": options.updates}
        result = in_process([sys.executable, __file__, "--worker", json.dumps(case)])
        print(f"{kind}: " + ", ".join(f"{name} {value:,.4g}" for name, value in result.items()), flush=True)
        return result

    print(hardware())
    figures = []
    for kind in options.kinds:
        bar = KINDS[kind]
        pairs = [(run(kind), run("td3_bc")) for _ in range(options.rounds)]
        speeds = np.array([[one["speed"] for one in pair] for pair in pairs])
        ratios, (ours, base) = speeds[:, 1] / speeds[:, 0], np.median(speeds, axis=0)
        note = f"{len(pairs)} pairs, {ratios.min():.2f} to {ratios.max():.2f}; TD3+BC {base:,.0f} steps/s"
        ratio = float(np.median(ratios))
        figures.append(Figure(f"time of a step of {kind}, over TD3+BC", ratio, "×", bar=bar, note=note))
        figures.append(Figure(f"speed of {kind}", float(ours), "steps/s"))
        if (kind, options.rows) in ORIGINALS:
            original, least = ORIGINALS[kind, options.rows]
            title = f"speed of {kind}, over the PyTorch original's {original} steps/s"
            given = "the original's rate is given, not measured here"
            figures.append(Figure(title, float(ours) / original, "×", bar=least, note=given))
        measured = pairs[0][0]
        figures.append(Figure(f"preparing and compiling {kind}", measured["prepare"] + measured["compile"], "s"))
        figures.append(Figure(f"temporary memory of {kind}", measured["temporary"] / 2**20, "MiB"))
        for share in ("certified", "exact"):
            if share in measured:
                figures.append(Figure(f"share of queries that the table answers: {share}", measured[share]))
    print(*figures, sep="\n")
    if options.record:
        print(record(f"Speed of offline algorithms, {options.rows:,} rows of halfcheetah's dimensions", figures))


if __name__ == "__main__":
    main()
