"""Measured figures on file: one JSON per title, and a page in Markdown made of all of them."""

import json
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlzoo import stops
from rlzoo.report.statistics import interval


class Figure(NamedTuple):
    """One measured number beside the bar that it is to reach."""

    what: str
    value: float
    unit: str = ""
    low: float | None = None  # ends of the 95% interval, if there is one
    high: float | None = None
    bar: str = ""  # such as ">= 495"; empty where a figure is only written down
    note: str = ""

    @property
    def met(self) -> bool | None:
        match = re.fullmatch(r"(>=|<=)\s*(-?[0-9.]+)", self.bar)
        if not match:
            return None
        return self.value >= float(match[2]) if match[1] == ">=" else self.value <= float(match[2])

    @property
    def remark(self) -> str:
        """Whether it is met, and its note, as a page has them."""
        verdict: dict[Any, str] = {True: "met", False: "**not met**", None: ""}
        return ", ".join(filter(None, [verdict[self.met], self.note]))

    def __str__(self) -> str:
        """One line for the terminal."""
        verdict = {True: "met", False: "NOT MET", None: ""}[self.met]
        return f"{self.what}: {self.value:,.4g} {self.unit} {self.bar} {verdict} {self.note}"


def returns_figures(what: str, scores: np.ndarray, bar: str = "") -> list[Figure]:
    """Mean over all seeds against the bar, and the IQM with its interval, of scores [S]."""
    scores = np.asarray(scores, float)
    point, low, high = (float(x) for x in interval(scores))
    over = f"{scores.size} seeds, lowest {scores.min():.4g}"
    return [
        Figure(f"{what}, mean", float(scores.mean()), bar=bar, note=over),
        Figure(f"{what}, IQM", point, low=low, high=high, note=over),
    ]


def record(title: str, figures: Sequence[Figure], directory: str | Path = "docs/results") -> Path:
    """Write the figures with hardware, commit, command and versions, and make the page ``<directory>.md`` anew.

    Figures of the same title are replaced. Returns the page's path.

    Raises:
        ValueError: the last run of this process was cut off by a signal: nothing is recorded of it.
    """
    if run := stops.cut_off():
        raise ValueError(f"nothing is recorded of a run that was cut off: {run}; the same command goes on with it")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    entry = {
        "title": title,
        "figures": [figure._asdict() for figure in figures],
        "hardware": hardware(),
        "commit": commit(),
        "command": " ".join(["python", *(Path(word).as_posix() for word in sys.argv)]),
        "versions": {name: version(name) for name in ("jax", "flax", "optax", "gymnax", "brax")},
        "date": date.today().isoformat(),
    }
    (directory / f"{slug(title)}.json").write_text(json.dumps(entry, indent=1) + "\n")
    page = directory.with_suffix(".md")
    page.write_text(_page(directory))
    return page


def slug(title: str) -> str:
    """A title as the name of its file."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")


def hardware() -> str:
    """Processor, cores and accelerators, as the figures' reader needs them."""
    import os

    import jax

    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (match := re.search(r"model name\s*: (.+)", info.read_text())):
        name = match[1]
    devices = sorted({device.device_kind for device in jax.devices() if device.platform != "cpu"})
    return ", ".join([f"{len(os.sched_getaffinity(0))} cores of {name}", *devices])


def commit() -> str:
    """The repository's commit, with a + where the working tree differs from it in code."""
    try:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        status = ["git", "status", "--porcelain", "--", "*.py", ":!tests"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _page(directory: Path) -> str:
    entries = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
    lines = ["# Results", "", "Written by the commands named below; nothing here is typed by hand.", ""]
    for entry in entries:
        versions = ", ".join(f"{name} {number}" for name, number in entry["versions"].items())
        lines += [f"## {entry['title']}", "", "| figure | value | 95% interval | bar | |", "|---|---:|---:|---:|---|"]
        lines += [_row(Figure(**figure)) for figure in entry["figures"]]
        lines += [
            "",
            f"`{entry['command']}`, commit {entry['commit']}, {entry['date']}, {entry['hardware']}; {versions}.",
            "",
        ]
    return "\n".join(lines)


def _row(figure: Figure) -> str:
    between = "" if figure.low is None or figure.high is None else f"{figure.low:.4g} … {figure.high:.4g}"
    return f"| {figure.what} | {figure.value:.4g} {figure.unit} | {between} | {figure.bar} | {figure.remark} |"
