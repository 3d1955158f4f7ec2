"""The tables of an accelerator, made of the lines that `benchmarks/accelerator.py` writes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ABOUT = (
    "Environment steps a second of training, of all agents of one program together; offline critic steps. Each task is "
    "a process of its own, which has the device alone while it is timed: the median of three repeats after one that "
    "warms up. Compiling is timed while others compile on the other cores. The device's peak, which a share is of, is "
    "measured in the same way: that of float32 products, or of a copy's bandwidth by the products' operands and "
    "results, whichever is nearer. Peak memory is of the whole process, in which XLA tries out products while it "
    "compiles; beside it what the compiled program says that it needs, and what `rlzoo.plan` says from small ones. "
    "Right: two updates of each algorithm's contract case from one State, on the device and on the CPU; of every leaf "
    "the largest difference over its largest number, the worst leaf's. P-IQL's worst is the last bias of its reward "
    "model, whose gradient is rounding alone: a constant reward changes no comparison."
)


def read(path: Path) -> list[dict[str, Any]]:
    """Of a file's lines the newest of each kind, with what was said of its run under "about"; cut ones are left out.

    What failed in one run and was measured in another is there.
    """
    newest: dict[tuple[Any, ...], dict[str, Any]] = {}
    said: dict[str, Any] = {}
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:  # the command was cut off while it wrote
            continue
        if line["stage"] == "about":
            said = line
            continue
        measured = next((kind for kind in ("kernels", "planned", "error") if kind in line), "")
        newest[(*_what(line), line.get("agents"), measured, _setting(said))] = line | {"about": said}
    there = {_what(line) for line in newest.values() if "error" not in line}
    return [line for line in newest.values() if "error" not in line or _what(line) not in there]


def _what(line: dict[str, Any]) -> tuple[Any, ...]:
    return line["stage"], line["name"], line.get("deterministic", False)


def _setting(about: dict[str, Any]) -> tuple[str, str]:
    return about.get("precision", ""), about.get("flags", "")


def merge(path: Path, found: list[dict[str, Any]]) -> None:
    """Write lines into a file, beside those in it that they do not replace."""
    before = read(path) if path.exists() else []
    path.write_text("".join(_written([*before, *found])))
    path.write_text("".join(_written(read(path))))  # of each kind the newest


def _written(found: list[dict[str, Any]]) -> Iterator[str]:
    """Lines as they are read; what is said of a run stands before its lines."""
    last = None
    for line in found:
        if line["about"] != last:
            yield json.dumps(line["about"]) + "\n"
        last = line["about"]
        yield json.dumps({name: x for name, x in line.items() if name != "about"}) + "\n"


def sections(found: list[dict[str, Any]]) -> list[str]:
    """All tables of a device: those of each setting, what measured them, and what is missing."""
    text, peak = [], {}
    for line in found:  # what the device can do is the best that it did in any setting
        if line["stage"] == "peaks" and "rate" in line:
            peak[line["name"]] = max(line["rate"], peak.get(line["name"], 0.0))
    for precision, flags in dict.fromkeys(_setting(line["about"]) for line in found):
        lines = [line for line in found if _setting(line["about"]) == (precision, flags) and "error" not in line]
        if not lines:
            continue
        text += [f"### Products at precision {precision}{f', {flags}' if flags else ''}", "", *tables(lines, peak)]
        for x in {json.dumps(line["about"]): line["about"] for line in lines}.values():
            on = f"{x['device']} with {x['cores']} cores, jax {x['jax']}"
            text += [f"`{x['command']}`, commit {x['commit']}, {x['date']}, {on}.", ""]
    if rows := [line for line in found if "error" in line]:
        text += ["| not there | why |", "|---|---|"]
        for line in rows:
            sure = ", deterministic" if line.get("deterministic") else ""
            text.append(f"| {line['stage']}: {line['name']}{sure} | {line['error'].replace('|', '/')} |")
        text.append("")
    return text


def in_brief(found: list[dict[str, Any]]) -> list[str]:
    """For the README: of each task the fastest, in whatever setting."""
    rows: dict[str, dict[str, Any]] = {}
    for line in found:
        if (
            line["stage"] == "fast"
            and "rate" in line
            and line["rate"] > rows.get(line["name"], line | {"rate": 0})["rate"]
        ):
            rows[line["name"]] = line
    text = [f"| on one {found[0]['about']['device']} | agents | a second, of all agents | XLA_FLAGS |"]
    text.append("|---|---:|---:|---|")
    for row in rows.values():
        cells = [row["name"], f"{row['agents']:,}", f"{row['rate']:,.0f} {row['what']}", row["about"].get("flags", "")]
        text.append(f"| {' | '.join(cells)} |")
    return text


def tables(found: list[dict[str, Any]], peak: dict[str, float]) -> list[str]:
    """Of one setting: how fast large products are, speed, kernels, whether it is right, learning.

    ``peak``: what the device can do, by the names of the stage "peaks".
    """
    of = lambda stage: [line for line in found if line["stage"] == stage]  # noqa: E731
    reached = {line["name"]: line["rate"] for line in of("peaks")}
    text = []
    if reached:
        units = {name: "B" if name == "copy" else "FLOP" for name in reached}
        rates = [f"{name} {rate / 1e12:.3g} T{units[name]}/s" for name, rate in reached.items()]
        text += [f"Reached in large products and a large copy: {', '.join(rates)}.", ""]
    for make, rows in (
        (_fast, [line for line in of("fast") if "rate" in line or "planned" in line]),
        (_kernels, [line for line in of("fast") if "kernels" in line]),
        (_right, of("right")),
        (_learnt, of("learning")),
    ):
        text += make(rows, peak) if rows else []
    return text


def _fast(rows: list[dict[str, Any]], peak: dict[str, float]) -> list[str]:
    planned = {(row["name"], row["agents"]): row["planned"] for row in rows if "planned" in row}
    text = ["| task | agents | a second, of all agents | compiling, s | of the device's peak "]
    text[0] += "| peak memory, MiB | the program's | planned |"
    text.append("|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        if "rate" in row:
            sizes = row["memory"], row["program"], planned.get((row["name"], row["agents"]))
            cells = [row["name"], str(row["agents"]), f"{row['rate']:,.0f} {row['what']}", f"{row['compile']:.1f}"]
            cells += [_share(row, peak), *(f"{size / 2**20:,.0f}" if size else "" for size in sizes)]
            text.append(f"| {' | '.join(cells)} |")
    return [*text, ""]


def _share(row: dict[str, Any], peak: dict[str, float]) -> str:
    """Of float32's peak in products, or of the copy's bandwidth in their operands: whichever is nearer."""
    if not {"float32", "copy"} <= set(peak):
        return ""
    products, bandwidth = row["flop"] * row["updates"] / peak["float32"], row["bytes"] * row["updates"] / peak["copy"]
    nearer = "products" if products >= bandwidth else "bandwidth"
    return f"{100 * max(products, bandwidth):.2g} % of {nearer}"


def _kernels(rows: list[dict[str, Any]], peak: dict[str, float]) -> list[str]:
    text = ["| kernels an update | in the program | traced | kinds |", "|---|---:|---:|---|"]
    for row in rows:
        found = row["kernels"]
        kinds = sorted(found["by_kind"].items(), key=lambda one: -one[1])[:6]
        traced = f"{found['traced']:,.0f}" if "traced" in found else ""
        said = ", ".join(f"{kind} {n:,.0f}" for kind, n in kinds)
        text.append(f"| {row['name']}, {row['agents']} agents | {found['launches']:,.0f} | {traced} | {said} |")
    text.append("")
    for row in rows:
        if "costliest" in row["kernels"]:
            text += [
                f"| {row['name']}: costliest kernels | an update | µs each | share of the time |",
                "|---|---:|---:|---:|",
            ]
            for one in row["kernels"]["costliest"]:
                cells = [f"`{one['kernel'][:60]}`", f"{one['launches']:,.0f}", f"{one['microseconds']:.1f}"]
                text.append(f"| {' | '.join(cells)} | {100 * one['share']:.0f} % |")
            text.append("")
    return text


def _right(rows: list[dict[str, Any]], peak: dict[str, float]) -> list[str]:
    text = ["| contract case | parameters | State | whole numbers that differ | resumes bit for bit | deterministic |"]
    text.append("|---|---:|---:|---:|---|---|")
    plain, sure = ({x["name"]: x for x in rows if bool(x.get("deterministic")) is kind} for kind in (False, True))
    for name, row in plain.items():
        same = [{True: "yes", False: "**no**", None: ""}[x and x["resumes_bit_for_bit"]] for x in (row, sure.get(name))]
        cells = [name, f"{row['params']:.1e}", f"{row['state']:.1e}", str(row["whole_numbers_that_differ"]), *same]
        text.append(f"| {' | '.join(cells)} |")
    return [*text, ""]


def _learnt(rows: list[dict[str, Any]], peak: dict[str, float]) -> list[str]:
    import numpy as np

    from rlzoo.report.statistics import interval

    text = ["| learning | steps | seeds | return, IQM | 95% interval | steps/s of all seeds | seconds |"]
    text.append("|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        point, low, high = (float(x) for x in interval(np.array(row["returns"])))
        steps = f"{row['steps']:,}" + (f" of {row['of']:,}" if row["partial"] else "")
        cells = [row["name"], steps, str(row["seeds"]), f"{point:,.0f}", f"{low:,.0f} … {high:,.0f}"]
        text.append(f"| {' | '.join(cells)} | {row['rate']:,.0f} | {row['seconds']:,.0f} |")
    return [*text, ""]
