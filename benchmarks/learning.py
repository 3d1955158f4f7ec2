"""The table of returns: every algorithm on its tasks, of what the experiments have recorded.

    python benchmarks/learning.py [--run [--only ppo sac]]

Each row is a figure in docs/results, with the command that measured it. `--run` runs those commands first, one after
another, and before them those that make the data they need, which takes many hours; rows are renewed as they end. What
runs/ holds already is only evaluated: remove it to train again. Rows of fewer than 8 seeds are named.
"""

import argparse
import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import tables

from rlzoo.report.record import slug

COLUMNS = ("key", "algorithm", "task", "seeds", "iqm", "low", "high", "worst", "commit", "date", "hardware", "command")


MADE_BY = {  # data that are not in the repository: the record of the command that makes them
    "data/hopper-medium": "datasets_of_brax_hopper_spring",
    "data/pendulum-half": "preferences_on_gymnax_pendulum_v1",
    "data/acrobot-half": "preferences_on_gymnax_acrobot_v1",
    "data/halfcheetah-half": "preferences_on_brax_halfcheetah",
}


class Row(NamedTuple):
    key: str  # of rlzoo.ALGORITHMS
    algorithm: str  # with its variant
    task: str
    title: str  # of the record
    figure: str = "deterministic return, IQM"


def offline(key: str, algorithm: str) -> list[Row]:
    scores = {
        "pendulum-medium": "20k gradient steps",
        "pendulum-medium-replay": "20k gradient steps",
        "hopper-medium": "100k gradient steps",
    }
    rows = []
    for data, steps in scores.items():
        title = f"Offline on {data}, {steps}, normalised score"
        apart = ": a2pr" if (key, data) == ("a2pr", "hopper-medium") else ""  # measured apart from the others
        rows.append(Row(key, algorithm, f"{data}, {steps}, score", title + apart, f"{key}, IQM"))
    return rows if key != "iql" else rows[:2]


def preferred(key: str, algorithm: str) -> list[Row]:
    places = (
        "pendulum-half by regret",
        "pendulum-half by return",
        "acrobot-half by regret",
        "halfcheetah-half by regret",
    )
    titles = {place: f"CPL from {place}, 4,000 updates" for place in places}
    figure = {"p_iql": "P-IQL, IQM"}.get(key, f"{algorithm}, IQM")
    return [
        Row(key, algorithm, f"{place}, 4k updates", title, figure)
        for place, title in titles.items()
        if not (key == "p_iql" and place.startswith("acrobot"))
    ]


def corrected() -> list[Row]:
    rows = []
    for data in ("pendulum-medium", "pendulum-medium-replay"):
        for base, name in (("td3_bc", "TD3+BC"), ("prdc", "PRDC"), ("td3", "TD3")):
            title, figure = f"CDSA-style correction on {data}", f"{base} on {data}, Pendulum-v1: return corrected, IQM"
            rows.append(Row("cdsa", "CDSA-style", f"{data}, {name} corrected, return", title, figure))
    return rows


def robust(figure: str) -> list[Row]:
    rows = []
    for opponent in ("QARL", "RARL", "SAC"):
        for task, title in (("Pendulum", "pendulum, 150"), ("double pendulum", "double pendulum, 100")):
            name = opponent if opponent == "QARL" else f"{opponent} (as `opponent`)"
            where = {"nominal": "no push", "fresh adversary": "a fresh adversary", "grid": "grid of parameters"}[figure]
            rows.append(
                Row("qarl", name, f"{task}, {where}", f"QARL on {title} iterations", f"{figure}, {opponent}, IQM")
            )
    return rows


ROWS = (
    Row("a2c", "A2C", "CartPole-v1, 1M steps", "A2C on CartPole-v1, 1M steps"),
    Row("a2c", "A2C", "Pendulum-v1, 2M steps", "A2C on Pendulum-v1, 2M steps"),
    Row("a2c", "A2C", "Breakout-MinAtar, 3M steps", "A2C on Breakout-MinAtar, 3M steps"),
    *offline("a2pr", "A2PR"),
    Row("a3c", "A3C", "CartPole-v1, 1M steps", "A3C on CartPole-v1, 1M steps"),
    *offline("bc", "BC"),
    *corrected(),
    *preferred("cpl", "CPL"),
    *preferred("cpl", "SFT"),
    Row("ga3c", "GA3C", "CartPole-v1, 1M steps", "GA3C on CartPole-v1, 1M steps"),
    *offline("iql", "IQL"),
    *preferred("p_iql", "P-IQL"),
    Row("mixed_ne", "MixedNE-LD", "Pendulum-v1, 100k steps", "MixedNE-LD on Pendulum-v1, 100k steps"),
    Row(
        "mixed_ne",
        "MixedNE-LD",
        "Pendulum, grid of parameters",
        "MixedNE-LD on Pendulum-v1, 100k steps",
        "grid of masses and lengths, IQM",
    ),
    Row("ppo", "PPO", "CartPole-v1, 500k steps", "PPO on CartPole-v1, 500k steps"),
    Row("ppo", "PPO", "Acrobot-v1, 500k steps", "PPO on Acrobot-v1, 500k steps"),
    Row("ppo", "PPO", "Pendulum-v1, 1M steps", "PPO on Pendulum-v1, 1M steps"),
    Row("ppo", "PPO", "MountainCarContinuous-v0, 1M steps", "PPO on MountainCarContinuous-v0, 1M steps"),
    Row("ppo", "PPO", "Breakout-MinAtar, 1M steps", "PPO on Breakout-MinAtar, 1M steps"),
    Row("ppo", "PPO", "brax inverted_pendulum, 1M steps", "PPO on brax inverted_pendulum (spring), 1M steps"),
    Row("ppo", "PPO", "brax halfcheetah, 5M steps", "PPO on brax halfcheetah (spring), 5M steps"),
    *offline("prdc", "PRDC"),
    *robust("fresh adversary"),
    *robust("grid"),
    *robust("nominal"),
    Row("sac", "SAC", "Pendulum-v1, 20k steps", "SAC on Pendulum-v1, 20k steps"),
    Row("sac", "SAC", "MountainCarContinuous-v0, 50k steps", "SAC on MountainCarContinuous-v0, 50k steps"),
    Row(
        "sac",
        "SAC, discrete",
        "CartPole-v1, 100k steps",
        "Discrete SAC on CartPole-v1, 100k steps",
        "target entropy 0.3 nats, IQM",
    ),
    Row("sac", "SAC", "brax halfcheetah, 100k steps", "SAC on brax halfcheetah (spring), 100k steps"),
    Row(
        "sac",
        "SAC",
        "brax inverted_double_pendulum, 100k steps",
        "SAC on brax inverted_double_pendulum (spring), 100k steps",
    ),
    Row("stac", "STAC", "Pendulum-v1, 20k steps", "STAC on Pendulum-v1, 20k steps"),
    *offline("td3_bc", "TD3+BC"),
)


def found(row: Row) -> dict[str, Any]:
    """The row's record; an error if there is none, for then the table would say less than it lists."""
    record = tables.recorded(slug(row.title))
    figure = next(figure for figure in record["figures"] if figure["what"] == row.figure)
    lowest = re.search(r"lowest ([0-9.e+-]+)", figure["note"])  # of returns and scores the worst
    return {
        "key": row.key,
        "algorithm": row.algorithm,
        "task": row.task,
        "seeds": seeds(figure["note"], record["command"]),
        "iqm": figure["value"],
        "low": figure["low"],
        "high": figure["high"],
        "worst": lowest[1] if lowest else "",
        **{name: record[name] for name in ("commit", "date", "hardware", "command")},
    }


def seeds(note: str, command: str) -> int:
    """As the note says, or else the command, or else its script by default."""
    said = re.search(r"(\d+) seeds", note)
    if (number := said[1] if said else option("--seeds", command)) is None:
        raise ValueError(f"neither the figure's note nor {command!r} says how many seeds there were")
    return int(number)


def option(name: str, command: str) -> str | None:
    """As the command gives it, or else its script's default; None without either."""
    script = Path(shlex.split(command)[1]).read_text()
    found = re.search(rf"{name} (\S+)", command) or re.search(rf'"{name}".*default="?([\w/-]+)', script)
    return found[1] if found else None


def data_of(command: str) -> str:
    """The file that a command reads, without its ending; empty if it names none."""
    return (option("--data", command) or "").removesuffix(".npz")


def before(command: str) -> list[str]:
    """The command that makes the data that this one reads, if they are not there yet."""
    data = data_of(command)
    if data not in MADE_BY or Path(f"{data}.npz").exists():
        return []
    return [tables.recorded(MADE_BY[data])["command"]]


def write() -> list[dict[str, Any]]:
    rows = [found(row) for row in ROWS]
    tables.DIRECTORY.mkdir(exist_ok=True)
    with (tables.DIRECTORY / "learning.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    tables.write()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="measure again, which takes many hours")
    parser.add_argument("--only", nargs="+", choices=sorted({row.key for row in ROWS}), help="these algorithms")
    options = parser.parse_args()

    rows = write()
    if options.run:
        asked = [row["command"] for row in rows if not options.only or row["key"] in options.only]
        for command in dict.fromkeys(asked):
            for line in (*before(command), command):
                print(line, flush=True)
                subprocess.run([sys.executable, *shlex.split(line)[1:]], check=True)
            rows = write()
    print("\n".join(tables.learning(rows)))
    few = [f"{row['algorithm']} on {row['task']}" for row in rows if row["seeds"] < 8]
    print(f"fewer than 8 seeds: {'; '.join(few) or 'none'}")


if __name__ == "__main__":
    main()
