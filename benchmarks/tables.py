"""The tables of docs/benchmarks.md and of the README, made of the CSV files in docs/benchmarks.

    python benchmarks/tables.py

It also puts the recorded figures anew where the pages in docs quote them.
"""

import csv
import json
import re
from pathlib import Path
from typing import Any

import device_tables
import floor_tables

DIRECTORY = Path("docs/benchmarks")
PAGE = DIRECTORY.with_suffix(".md")
NAMES = {"rlzoo": "rlzoo", "rejax": "Rejax 0.1.3", "sbx": "SBX 0.28"}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def recorded(name: str) -> dict[str, Any]:
    """The record docs/results/<name>.json."""
    return json.loads((DIRECTORY.parent / "results" / f"{name}.json").read_text())


def speed(rows: list[dict[str, Any]]) -> list[str]:
    """Every measurement: a row a library."""
    lines = ["| task | agents | library | steps/s | rlzoo's speed / its | compiling, s | peak memory, MiB |"]
    lines.append("|---|---:|---|---:|---:|---:|---:|")
    for row in rows:
        pace, ratio = float(row["steps_per_second"]), float(row["ours_over_it"])
        low, high = float(row["ratio_low"]), float(row["ratio_high"])
        beside = "" if row["library"] == "rlzoo" else f"{ratio:.3g} × ({low:.3g} to {high:.3g})"
        cells = [
            f"{pace:,.0f}",
            beside,
            f"{float(row['compile_seconds']):.1f}",
            f"{float(row['peak_memory_mib']):,.0f}",
        ]
        cells = cells if pace == pace else ["fails", "", "", ""]
        first = [row["task"], str(row["lanes"]), f"{NAMES[row['library']]} on {row['environment']}"]
        lines.append(f"| {' | '.join([*first, *cells])} |")
    return lines


def speed_in_brief(rows: list[dict[str, Any]]) -> list[str]:
    """A row a task: steps per second of each library, for the README."""
    lines = ["| steps/s | agents | " + " | ".join(NAMES.values()) + " | rlzoo over Rejax |"]
    lines.append("|---|---:|" + "---:|" * (len(NAMES) + 1))
    by = {(row["task"], row["lanes"], row["library"]): row for row in rows}
    for task, lanes in dict.fromkeys((row["task"], row["lanes"]) for row in rows):
        paces = [by.get((task, lanes, library)) for library in NAMES]
        cells = [_pace(row) for row in paces]
        ratio = by.get((task, lanes, "rejax"))
        beside = f"{float(ratio['ours_over_it']):.2f} ×" if ratio and _pace(ratio) != "fails" else ""
        lines.append(f"| {task} | {lanes} | {' | '.join(cells)} | {beside} |")
    return lines


def _pace(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    pace = float(row["steps_per_second"])
    return f"{pace:,.0f}" if pace == pace else "fails"


def learning(rows: list[dict[str, str]]) -> list[str]:
    """A row an algorithm and task."""
    lines = ["| algorithm | task | seeds | IQM | 95% interval | worst seed | commit |"]
    lines.append("|---|---|---:|---:|---:|---:|---|")
    for row in rows:
        lines.append(f"| {' | '.join([row['algorithm'], row['task'], *scores(row), row['commit']])} |")
    return lines


def scores(row: dict[str, str]) -> list[str]:
    """Seeds, IQM, interval and worst seed of a row of learning.csv, as cells."""
    between = f"{float(row['low']):.4g} … {float(row['high']):.4g}"
    worst = f"{float(row['worst']):.4g}" if row["worst"] else ""
    return [str(row["seeds"]), f"{float(row['iqm']):.4g}", between, worst]


def measured_by(row: dict[str, str]) -> str:
    return f"`{row['command']}`, commit {row['commit']}, {row['date']}, {row['hardware']}, jax {row['jax']}."


def page() -> str:
    lines = ["# Benchmarks", "", "Written by `python benchmarks/tables.py` from the files beside this page.", ""]
    for path in sorted(DIRECTORY.glob("speed_*.csv")):
        rows = read(path)
        lines += [f"## Speed on {rows[0]['hardware']}", "", SPEED, "", *speed(rows), ""]
        for said in dict.fromkeys(measured_by(row) for row in rows):
            lines += [said, ""]
    for path in sorted(DIRECTORY.glob("accelerator_*.jsonl")):
        found = device_tables.read(path)
        lines += [f"## On {found[0]['about']['device']}", "", device_tables.ABOUT, "", *device_tables.sections(found)]
    if (path := DIRECTORY / "learning.csv").exists():
        lines += ["## Returns", "", LEARNING, "", *learning(read(path)), ""]
    return "\n".join(lines)


SPEED = (
    "Environment steps per second of training, which for SAC are gradient steps too; networks and batches of the same "
    "sizes. Medians over rounds in which the libraries took turns, each measurement in a process of its own, with one "
    "run that warms up and three that count; ratios are taken round by round. On a CPU rlzoo trains the agents of SAC "
    "one after another in its one program, where Rejax's are vmapped. SBX steps gymnasium's environments in Python, "
    "one agent in a process; its compile time is all of its first PPO iteration, or the 1,000 random steps of SAC's "
    "warm-up and the first updates. Memory is that of the process at its peak, or of the accelerator."
)
LEARNING = (
    "Returns of deterministic policies (CPL's and SFT's on Acrobot sampled), apart from training, over all seeds; the "
    "IQM with its stratified-bootstrap interval. "
    "Commands, hardware and versions are in [results](results.md)."
)


PAPERS = {  # paper, actions, learns from
    "ppo": ("[Schulman et al. 2017](https://arxiv.org/abs/1707.06347)", "both", "environment"),
    "sac": (
        "[Haarnoja et al. 2018](https://arxiv.org/abs/1812.05905), [Christodoulou 2019](https://arxiv.org/abs/1910.07207)"
        ", REDQ [Chen et al. 2021](https://arxiv.org/abs/2101.05982)",
        "both",
        "environment",
    ),
    "a2c": ("[Mnih et al. 2016](https://arxiv.org/abs/1602.01783)", "both", "environment"),
    "a3c": (
        "[Mnih et al. 2016](https://arxiv.org/abs/1602.01783), its asynchrony exact and deterministic",
        "both",
        "environment",
    ),
    "ga3c": ("[Babaeizadeh et al. 2017](https://arxiv.org/abs/1611.06256), its queues as lags", "both", "environment"),
    "stac": ("[Ozalp 2026](https://arxiv.org/abs/2601.00737), with DSAC and ESTAC", "continuous", "environment"),
    "qarl": (
        "[Reddi et al. 2024](https://arxiv.org/abs/2311.01642), with RARL, force curriculum, CAT",
        "continuous",
        "environment, adversary",
    ),
    "mixed_ne": (
        "[Kamalaruban et al. 2020](https://arxiv.org/abs/2002.06063), QARL's baseline",
        "continuous",
        "environment, adversary",
    ),
    "dqn": (
        "[Mnih et al. 2015](https://doi.org/10.1038/nature14236), [C51](https://arxiv.org/abs/1707.06887), "
        "[quantiles](https://arxiv.org/abs/1710.10044), [IQN](https://arxiv.org/abs/1806.06923), "
        "[Rainbow](https://arxiv.org/abs/1710.02298), [Munchausen](https://arxiv.org/abs/2007.14430), "
        "[HL-Gauss](https://arxiv.org/abs/2403.03950)",
        "discrete",
        "environment",
    ),
    "pqn": ("[Gallici et al. 2025](https://arxiv.org/abs/2407.04811)", "discrete", "environment"),
    "td3": (
        "[Fujimoto et al. 2018](https://arxiv.org/abs/1802.09477), DDPG [Lillicrap et al. 2016]"
        "(https://arxiv.org/abs/1509.02971)",
        "continuous",
        "environment",
    ),
    "bc": ("Pomerleau 1991", "continuous", "dataset"),
    "td3_bc": ("[Fujimoto & Gu 2021](https://arxiv.org/abs/2106.06860)", "continuous", "dataset"),
    "iql": ("[Kostrikov et al. 2022](https://arxiv.org/abs/2110.06169)", "continuous", "dataset"),
    "prdc": ("[Ran et al. 2023](https://arxiv.org/abs/2306.06569), its search in jit", "continuous", "dataset"),
    "a2pr": ("[Liu et al. 2024](https://arxiv.org/abs/2405.19909)", "continuous", "dataset"),
    "cdsa": (
        "after the abstract of [Liu et al. 2024](https://arxiv.org/abs/2406.07541); corrects any trained policy",
        "continuous",
        "dataset",
    ),
    "cpl": ("[Hejna et al. 2024](https://arxiv.org/abs/2310.13639), with SFT", "both", "preferences"),
    "p_iql": (
        "baseline of [Hejna et al. 2024](https://arxiv.org/abs/2310.13639), a reward model and IQL",
        "continuous",
        "preferences",
    ),
}
TITLES = {"mixed_ne": "MixedNE-LD", "td3_bc": "TD3+BC", "cdsa": "CDSA-style", "p_iql": "P-IQL"}


CLAIMS = {  # the beginnings of the titles of records that try what a paper claims
    "stac": ("STAC on RiskyPointMass-v0", "STAC and its rivals"),
    "qarl": ("QARL on", "QARL's own test"),
    "prdc": ("Offline on",),
    "a2pr": ("Offline on",),
    "cdsa": ("CDSA-style correction on",),
    "cpl": ("CPL from", "CPL over datasets"),
}


def claims(key: str, root: Path = Path()) -> list[tuple[str, Any]]:
    """Where the claims of an algorithm's paper were tried, and what came of it: every figure that has a bar."""
    from rlzoo.report.record import Figure

    found = []
    for path in sorted((root / DIRECTORY.parent / "results").glob("*.json")):
        record = json.loads(path.read_text())
        if record["title"].startswith(CLAIMS.get(key, ("no claim",))):
            figures = [Figure(**figure) for figure in record["figures"] if figure["bar"]]
            others = tuple(f"{other}," for other in PAPERS if other != key)  # of which a record has figures too
            found += [(record["title"], figure) for figure in figures if not figure.what.startswith(others)]
    return found


def algorithms(rows: list[dict[str, str]]) -> list[str]:
    """A row an algorithm: paper, needs, traced numbers, the bars of its claims, and its first measured return."""
    import rlzoo

    lines = [
        "| algorithm | paper | actions | learns from | traced numbers | its claims here | returns, IQM and interval |"
    ]
    lines.append("|---|---|---|---|---:|---|---|")
    for key, about in PAPERS.items():
        row = next((row for row in rows if row["key"] == key), None)
        said = "not in the table yet"
        if row:
            said = f"{row['task']}: {float(row['iqm']):.4g} ({float(row['low']):.4g} to {float(row['high']):.4g})"
        module = rlzoo.ALGORITHMS[key]
        traced = len(module.Hyper._fields) + len(getattr(getattr(module, "Strength", None), "_fields", ()))
        name = f"[{TITLES.get(key, key.upper())}](rlzoo/algorithms/{key}.py)"
        tried = [figure.met for _, figure in claims(key)]
        bars = f"{sum(tried)} of {len(tried)} bars met" if tried else ""
        lines.append(f"| {' | '.join([name, *about, str(traced), bars, said])} |")
    return lines


def backends() -> list[str]:
    """A row an algorithm and task of brax: what is recorded on each backend, and at how many steps per second."""
    from rlzoo.envs.brax import BACKENDS

    found: dict[tuple[str, ...], dict[str, str]] = {}
    for path in sorted((DIRECTORY.parent / "results").glob("*_on_brax_*.json")):
        record = json.loads(path.read_text())
        if not (said := re.fullmatch(r"(PPO|SAC) on brax (\w+) \((\w+)\), (\w+) steps", record["title"])):
            continue
        figures = {figure["what"]: figure for figure in record["figures"]}
        score = figures["deterministic return, IQM"]
        cell = f"{score['value']:,.0f} ({score['low']:,.0f} to {score['high']:,.0f}; {score['note'].split(',')[0]}"
        pace = figures.get("steps per second, all seeds")
        cell += f"; {pace['value']:,.0f} steps/s)" if pace else ")"
        found.setdefault((said[2], said[1], said[4]), {})[said[3]] = cell
    lines = [f"| task | algorithm | steps | {' | '.join(BACKENDS)} |", "|---|---|---:|" + "---|" * len(BACKENDS)]
    for row, cells in sorted(found.items()):
        lines.append(f"| {' | '.join([*row, *(cells.get(backend, 'not measured') for backend in BACKENDS)])} |")
    return lines


def environments() -> str:
    """The page on environments with its table of backends made anew."""
    between = "<!-- backends -->\n" + "\n".join(backends()) + "\n<!-- /backends -->"
    text = (DIRECTORY.parent / "environments.md").read_text()
    return re.sub(r"<!-- backends -->.*?<!-- /backends -->", between, text, flags=re.S)


def performance() -> str:
    """The page on floors and launches with its tables made anew."""
    return _between((DIRECTORY.parent / "performance.md").read_text(), floor_tables.parts(DIRECTORY))


def _between(text: str, parts: dict[str, list[str]]) -> str:
    for name, lines in parts.items():
        between = f"<!-- {name} -->\n" + "\n".join(lines) + f"\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, new=between: new, text, flags=re.S)
    return text


def readme() -> str:
    """The README with its generated parts made anew; they stand between comments."""
    text = Path("README.md").read_text()
    parts = {"algorithms": algorithms(read(DIRECTORY / "learning.csv"))}
    if (measured := DIRECTORY / "speed_cpu.csv").exists():
        rows = read(measured)
        parts["speed"] = [*speed_in_brief(rows), "", f"On {rows[0]['hardware']}; commit {rows[0]['commit']}."]
    for path in sorted(DIRECTORY.glob("accelerator_*.jsonl")):
        parts["speed"] = [*parts.get("speed", []), "", *device_tables.in_brief(device_tables.read(path))]
    return numbers(_between(text, parts))


def numbers(text: str) -> str:
    """A page with the recorded figures that it quotes put in anew: ``<!-- = record | figure | form -->here<!-- = -->``.

    The form is ``value`` or ``between``, the ends of the interval, and how a number is written, such as ``.1f``.
    """

    def one(found: re.Match[str]) -> str:
        name, what, form = (part.strip() for part in found[1].split(" | "))
        figure = next(figure for figure in recorded(name)["figures"] if figure["what"] == what)
        part, spec = form.split()
        shown = [figure["value"]] if part == "value" else [figure["low"], figure["high"]]
        return f"<!-- = {found[1]} -->{' to '.join(format(x, spec) for x in shown)}<!-- = -->"

    return re.sub(r"<!-- = (.+?) -->.*?<!-- = -->", one, text)


def write() -> None:
    for path in DIRECTORY.parent.glob("*.md"):
        if "<!-- = " in (text := path.read_text()):
            path.write_text(numbers(text))
    PAGE.write_text(page())
    (DIRECTORY.parent / "environments.md").write_text(environments())
    (DIRECTORY.parent / "performance.md").write_text(performance())
    Path("README.md").write_text(readme())


if __name__ == "__main__":
    write()
