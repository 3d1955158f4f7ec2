"""Pages that are made of the code: one for each algorithm, of its docstring, its fields and its measured returns."""

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.structure.files import File

import rlzoo
from rlzoo.algorithms.hyper import ranges_of
from rlzoo.drivers import named

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import tables  # noqa: E402


def on_files(files: Any, config: Any) -> Any:
    for name, module in rlzoo.ALGORITHMS.items():
        files.append(File.generated(config, f"algorithms/{name}.md", content=page(name, module)))
    files.append(File.generated(config, "changelog.md", content=(ROOT / "CHANGELOG.md").read_text()))
    return files


def page(name: str, module: ModuleType) -> str:
    """Paper, equations and departures (the file's docstring), how to run it, its fields, its returns, its functions."""
    title, *rest = prose(inspect.getdoc(module) or "").split("\n\n")
    lines = [f"# {title.partition(':')[0].partition(' (')[0]}", "", title, "", "\n\n".join(rest), ""]
    lines += [f"Source: `rlzoo/algorithms/{name}.py`.", "", "## Run it", "", "```sh", command(name, module), "```", ""]
    if "phase" in module.Config.__dataclass_fields__:
        lines += ["Without cloning first; with it, see [Preferences](../data.md#preferences).", ""]
    lines += ["As one script that needs no rlzoo:", "", "```sh", eject_command(name, module), "```", ""]
    lines += returns(name)
    lines += ["## Config", "", "Static: a new value compiles a new program.", ""]
    lines += fields(module.Config, {preset: pair.config for preset, pair in module.presets.items()})
    lines += ["## Hyper", "", "Traced: any of them may be swept.", ""]
    lines += fields(module.Hyper, {preset: pair.hyper for preset, pair in module.presets.items()})
    if hasattr(module, "Strength"):
        lines += ["## Strength", "", "Traced too: numbers of acting, not of training.", ""]
        lines += fields(module.Strength, {})
    lines += ["## Functions", "", f"::: rlzoo.algorithms.{name}", "    options:", "      show_root_heading: false"]
    lines += [
        "      show_root_toc_entry: false",
        "      show_docstring_description: false",
        "      filters: ['!^_', '!^[A-Z]']",
    ]
    return "\n".join(lines) + "\n"


def prose(text: str) -> str:
    """A docstring as Markdown: indented paragraphs are equations, and arXiv numbers are links."""
    parts = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.splitlines()
        first = next((i for i, line in enumerate(lines) if line.startswith("  ")), len(lines))
        if first:
            said = "\n".join(lines[:first]).replace("] [", "] \\[")  # shapes, not links
            parts.append(re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", said))
        if first < len(lines):
            last = max(i for i, line in enumerate(lines) if line.startswith("  ")) + 1
            parts.append("\n".join(["```text", inspect.cleandoc("\n".join(["", *lines[first:last]])), "```"]))
            parts += ["\n".join(lines[last:])] if last < len(lines) else []
    return "\n\n".join(parts)


def command(name: str, module: ModuleType) -> str:
    if not named.is_offline(module):
        env = "gymnax/CartPole-v1" if name in ("ppo", "a2c", "a3c", "ga3c") else "gymnax/Pendulum-v1"
        steps = {"mixed_ne": 99_990, "qarl": 100_000}.get(name, 100_000)
        return f"rlzoo train {name} --env {env} --steps {steps} --seeds 8"
    data, budget = "pendulum-medium.npz", "--steps 20000"
    if "preferences" in inspect.signature(module.make).parameters:
        data, budget = "preferences.npz", "--steps 4000"
        budget = budget if "pendulum" in module.presets else f"--preset small {budget}"
    return f"rlzoo train {name} --env gymnax/Pendulum-v1 --data {data} {budget} --seeds 8"


def eject_command(name: str, module: ModuleType) -> str:
    return command(name, module).replace("rlzoo train", "rlzoo eject").removesuffix(" --seeds 8")


def fields(cls: Any, presets: dict[str, Any]) -> list[str]:
    """A row a field of a `Config` or of numbers: its default, what presets put in its place, what it is, its source."""
    said, ranges = named.comments(cls), ranges_of(cls)
    numbers = bool(ranges)
    lines = ["| field | default | range | presets | |" if numbers else "| field | default | presets | |"]
    lines.append("|---|---|---|---|---|" if numbers else "|---|---|---|---|")
    for field in inspect.get_annotations(cls):
        default = getattr(cls(), field)
        others: dict[str, list[str]] = {}
        for preset, values in presets.items():
            value = getattr(values, field)
            if value != default and value == value:
                others.setdefault(f"`{value}`", []).append(preset)
        given = ", ".join(f"{value} {' '.join(names)}" for value, names in others.items())
        what = prose(said.get(field, "")).replace("|", "\\|")
        allowed = f" {ranges[field]} |" if numbers else ""
        lines.append(f"| `{field}` | `{default}` |{allowed} {given} | {what} |")
    return [*lines, ""]


def returns(name: str) -> list[str]:
    """The measured returns of this algorithm, if there are any."""
    rows = [row for row in tables.read(ROOT / tables.DIRECTORY / "learning.csv") if row["key"] == name]
    if not rows:
        return [
            "## Returns",
            "",
            "None are in the table yet; [all results](../results.md) may have figures of another kind.",
            "",
        ]
    lines = ["## Returns", "", "| task | | seeds | IQM | 95% interval | worst seed |", "|---|---|---:|---:|---|---:|"]
    for row in rows:
        lines.append(f"| {' | '.join([row['task'], row['algorithm'], *tables.scores(row)])} |")
    commands = dict.fromkeys(f"`{row['command']}` (commit {row['commit']})" for row in rows)
    return [*lines, "", f"Measured by {', '.join(commands)}; hardware and versions: [all results](../results.md).", ""]
