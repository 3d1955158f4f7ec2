"""Pages that are made of the code: one for each algorithm, of its docstring, its fields and its measured returns, and
one for each file that pages name, which is linked there. Into all pages go American spellings, for the search alone.
"""

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.structure.files import File

import rlzoo
from rlzoo import names
from rlzoo.algorithms.hyper import ranges_of
from rlzoo.drivers import named

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import tables  # noqa: E402

SOURCES = ("rlzoo/**/*.py", "experiments/**/*.py", "experiments/*.yaml", "benchmarks/*.py", "benchmarks/papers/*.py")
AMERICAN = {  # the beginnings of words
    "artefact": "artifact",
    "behaviour": "behavior",
    "cancell": "cancel",
    "centre": "center",
    "centred": "centered",
    "centring": "centering",
    "colour": "color",
    "discretis": "discretiz",
    "favour": "favor",
    "generalis": "generaliz",
    "grey": "gray",
    "initialis": "initializ",
    "labell": "label",
    "licence": "license",
    "maximis": "maximiz",
    "minimis": "minimiz",
    "modell": "model",
    "neighbour": "neighbor",
    "normalis": "normaliz",
    "optimis": "optimiz",
    "parametris": "parametriz",
    "penalis": "penaliz",
    "practis": "practic",
    "randomis": "randomiz",
    "realis": "realiz",
    "recognis": "recogniz",
    "regularis": "regulariz",
    "serialis": "serializ",
    "summaris": "summariz",
    "standardis": "standardiz",
    "synchronis": "synchroniz",
    "unnormalis": "unnormaliz",
    "vectoris": "vectoriz",
}


def on_files(files: Any, config: Any) -> Any:
    made = {f"algorithms/{name}.md": page(name, module) for name, module in rlzoo.ALGORITHMS.items()}
    made["changelog.md"] = (ROOT / "CHANGELOG.md").read_text()
    made |= {source_page(path): source(path) for path in sources()}
    for where, content in made.items():
        files.append(File.generated(config, where, content=content))
    return files


def on_page_markdown(text: str, page: Any, **_: Any) -> str:
    """What a page takes from the README, links to the files that it names, and names that no line break cuts."""
    if page.file.src_uri.startswith("sources/"):
        return text
    for what, part in (("the code", readme_code), ("algorithms", readme_algorithms)):
        text = text.replace(f"<!-- README: {what} -->", part())
    up = "../" * page.file.src_uri.count("/")
    outside = re.split(r"(^```.*?^```|<!-- .*? -->)", text, flags=re.S | re.M)  # code is left alone
    return "".join(part if i % 2 else whole_names(linked(part, up)) for i, part in enumerate(outside))


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """American spellings of a page's words, hidden: a search for `optimizer` finds what is said of optimisers."""
    words = set(re.findall(r"[a-z]+", re.sub(r"<[^>]+>", " ", html).lower()))
    pairs = [(old, new, word) for word in words for old, new in AMERICAN.items() if word.startswith(old)]
    found = sorted({new + word.removeprefix(old) for old, new, word in pairs if _follows(old, word)})
    if not found or page.file.src_uri.startswith("sources/"):
        return html
    return html.replace("</h1>", f'</h1><p class="spellings">{" ".join(found)}</p>', 1)


def _follows(beginning: str, word: str) -> bool:
    """Whether a word is of this beginning's: optimise of optimis, and not optimistic."""
    return not beginning.endswith("is") or bool(re.fullmatch(rf"{beginning}(e\w*|ing|ation\w*|able)", word))


def sources() -> list[str]:
    """The files of the repository that pages may name."""
    return sorted(path.relative_to(ROOT).as_posix() for pattern in SOURCES for path in ROOT.glob(pattern))


def source_page(path: str) -> str:
    return f"sources/{path}.md"


def source(path: str) -> str:
    """A file as a page, which the search leaves out: its words are in the pages of the reference."""
    language = "yaml" if path.endswith(".yaml") else "python"
    text = (ROOT / path).read_text().rstrip()
    return f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n``````{language}\n{text}\n``````\n"


def linked(text: str, up: str) -> str:
    """Code in a sentence that names a file of the repository, such as `experiments/demo.py`, leads to it."""

    def link(match: re.Match[str]) -> str:
        named = re.search(r"(?:rlzoo|experiments|benchmarks)/[\w/]+\.(?:py|yaml)", match[0])
        return f"[{match[0]}]({up}{source_page(named[0])})" if named and (ROOT / named[0]).exists() else match[0]

    return re.sub(r"(?<![\[`])`[^`\n]+`(?!`)", link, text)


def whole_names(text: str) -> str:
    """Names with dashes, such as MountainCarContinuous-v0, are not broken there; in tables no word with a dash is."""
    kept = r"`[^`\n]*`|\]\([^)]*\)|<[^>]*>|https?:\S+|\{[^}\n]*\}"

    def whole(name: str, line: str) -> str:
        return re.sub(
            rf"({kept})|(?<![\w/#.-])({name})(?![\w/])", lambda m: m[1] or f'<span class="word">{m[2]}</span>', line
        )

    lines = text.split("\n")
    names = r"[A-Za-z]\w*(?:-\w+)*-v\d+"
    return "\n".join(whole(r"[A-Za-z]\w*(?:-\w+)+" if line.startswith("|") else names, line) for line in lines)


def readme_code() -> str:
    (code,) = re.findall(r"^```python\n.*?^```", (ROOT / "README.md").read_text(), re.S | re.M)
    return code


def readme_algorithms() -> str:
    """The README's table, each algorithm leading to its page."""
    (table,) = re.findall(r"<!-- algorithms -->\n(.*?)<!-- /algorithms -->", (ROOT / "README.md").read_text(), re.S)
    return re.sub(r"\(rlzoo/algorithms/(\w+)\.py\)", r"(algorithms/\1.md)", table)


def page(name: str, module: ModuleType) -> str:
    """Paper, equations and departures (the file's docstring), how to run it, its fields, its returns, its functions."""
    title, *rest = prose(inspect.getdoc(module) or "").split("\n\n")
    lines = [f"# {title.partition(':')[0].partition(' (')[0]}", "", title, "", "\n\n".join(rest), ""]
    lines += [
        f"The whole file: `rlzoo/algorithms/{name}.py`.",
        "",
        "## Run it",
        "",
        "```sh",
        command(name, module),
        "```",
        "",
    ]
    if "phase" in module.Config.__dataclass_fields__:
        lines += ["Without cloning first; with it, see [Preferences](../data.md#preferences).", ""]
    lines += ["As one script that needs no rlzoo:", "", "```sh", eject_command(name, module), "```", ""]
    lines += returns(name)
    lines += claims(name)
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
    said, ranges = names.comments(cls), ranges_of(cls)
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


def claims(name: str) -> list[str]:
    """What the paper claims, as far as it was tried here: every bar, met or not."""
    tried = tables.claims(name, ROOT)
    if not tried:
        return []
    lines = ["## Does it do what its paper says?", "", "All bars that were set, met or not.", ""]
    lines += ["| tried | figure | value | bar | |", "|---|---|---:|---:|---|"]
    for title, figure in tried:
        lines.append(f"| {title} | {figure.what} | {figure.value:.4g} | {figure.bar} | {figure.remark} |")
    return [*lines, "", "Commands, hardware and versions: [all results](../results.md).", ""]
