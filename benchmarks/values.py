"""Values: DQN, IQN, PQN and TD3 beside Rejax 0.1.3, and what heads and prioritised replay cost.

    python benchmarks/values.py [--rounds 5] [--only "DQN CartPole" costs] [--scale 1] [--record]

Networks, batches and updates to a step are the same; ours also tells time limits from deaths. Each measurement beside
Rejax is a process of its own, and libraries take turns; ratios are taken round by round, and medians printed. Heads and
replays take turns in one process: an update of DQN with two layers of 256, 512 rows, on CartPole, at a capacity of
100,000.
"""

import argparse

import numpy as np
import peers
from speed import LANES, Task, measured
from workers.measure import timed

DQN = {"num_steps": 1, "batch_size": 128, "capacity": 50_000, "warmup": 1_000, "hidden": [64, 64], "double": True}
IQN = DQN | {"head": "iqn", "hidden": [64, 64, 64], "num_taus": [64, 64, 32], "double": True}
PQN = {"num_envs": 64, "num_steps": 64, "num_epochs": 2, "num_minibatches": 16, "hidden": [64, 64]}
TD3 = {"batch_size": 256, "capacity": 100_000, "warmup": 1_000, "hidden": [64, 64], "num_steps": 2, "num_updates": 2}
CARTPOLE, PENDULUM = ("gymnax/CartPole-v1", "CartPole-v1", ""), ("gymnax/Pendulum-v1", "Pendulum-v1", "")
TASKS = (
    Task("DQN CartPole", "dqn", DQN, {1: 4_000, LANES: 100}, *CARTPOLE),
    Task("IQN CartPole", "dqn", IQN, {1: 200, LANES: 4}, *CARTPOLE),
    Task("PQN CartPole", "pqn", PQN, {1: 100, LANES: 4}, *CARTPOLE),
    Task("TD3 Pendulum", "td3", TD3, {1: 1_000, LANES: 30}, *PENDULUM),
)
COSTS = {  # what an update of DQN is beside, and the bar of its time over it
    "head hl_gauss over scalar": ({"head": "hl_gauss"}, {}, "<= 1.3"),
    "head c51 over scalar": ({"head": "c51"}, {}, ""),
    "head quantile over scalar": ({"head": "quantile"}, {}, ""),
    "prioritised over uniform": ({"prioritised": True}, {}, "<= 1.3"),
    "three steps over one": ({"n_step": 3}, {}, ""),
}


def beside_rejax(task: Task, rounds: int, scale: int) -> list:
    """Ratios of speed and of compiling, of one agent and of many."""
    from rlzoo.report import Figure

    found: dict[int, list] = {lanes: [] for lanes in task.updates}
    for number in range(rounds):
        for lanes in task.updates:
            sides = [(library, lanes) for library in ("rlzoo", "rejax")]
            pair = {side[0]: measured(task, *side, scale) for side in (sides if number % 2 == 0 else sides[::-1])}
            print(f"{task.name}, round {number + 1}, {lanes} lanes: {pair}", flush=True)
            if all(pair.values()):
                found[lanes].append(pair)
    figures = []
    for lanes, pairs in found.items():
        who = f"{task.name}, {lanes} {'agent' if lanes == 1 else 'agents'}"
        for what, unit, bar, upside in (("speed", "steps/s", ">= 1.2", True), ("compile", "s", "<= 1", False)):
            ours, theirs = (np.array([pair[x][what] for pair in pairs]) for x in ("rlzoo", "rejax"))
            ratio = ours / theirs
            note = f"{len(pairs)} rounds, {ratio.min():.2f} to {ratio.max():.2f}; "
            note += f"ours {np.median(ours):,.3g} {unit}, Rejax's {np.median(theirs):,.3g}"
            title = f"{who}: {'speed' if upside else 'compiling'} over Rejax's"
            figures.append(Figure(title, float(np.median(ratio)), "×", bar=bar, note=note))
    return figures


def cost(name: str, rounds: int, updates: int) -> list:
    """The time of an update over that of another."""
    import rlzoo
    from rlzoo import dqn
    from rlzoo.report import Figure

    one, other, bar = COSTS[name]
    sizes = {"num_steps": 1, "batch_size": 512, "capacity": 100_000, "warmup": 100_000, "hidden": (256, 256)}
    env = rlzoo.envs.make("gymnax/CartPole-v1")
    algos = [dqn.make(env, dqn.Config(**sizes | options)) for options in (one, other)]
    rates = [sides for sides in peers.in_turns((0, 1), rounds, lambda i: timed(algos[i], 1, updates).speed)]
    ratios = np.array([found[1] / found[0] for found in rates])
    milliseconds = 1e3 / np.median([[found[0], found[1]] for found in rates], axis=0)
    note = (
        f"{rounds} rounds, {ratios.min():.2f} to {ratios.max():.2f}; {milliseconds[0]:.2f} and {milliseconds[1]:.2f} ms"
    )
    return [Figure(f"time of an update, {name}", float(np.median(ratios)), "×", bar=bar, note=note)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*(task.name for task in TASKS), "costs"]
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these (default: all)")
    parser.add_argument("--scale", type=int, default=1, help="times as many updates in a repeat")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/results.md")
    options = parser.parse_args()

    from rlzoo.report import record

    for task in TASKS:
        if task.name in options.only:
            figures = beside_rejax(task, options.rounds, options.scale)
            print(*figures, sep="\n", flush=True)
            if options.record:
                record(f"Speed of {task.name} beside Rejax", figures)
    if "costs" in options.only:
        figures = [figure for name in COSTS for figure in cost(name, options.rounds, 300 * options.scale)]
        print(*figures, sep="\n", flush=True)
        if options.record:
            record("What heads and replays cost DQN", figures)


if __name__ == "__main__":
    main()
