"""The tables of an accelerator, made of the lines that `benchmarks/accelerator.py` writes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ABOUT = (
    "Environment steps a second of training, of all agents of one program together; offline critic steps. Each task is "
    "a process of its own, which has the device alone while it is timed: the median of three repeats after one that "
    "warms up. Memory is the device's peak in that process, beside what `rlzoo.plan` says. The last "
    "column is the share of the device's own peak, measured in the same run: of float32 products, or of a copy's "
    "bandwidth by the products' operands and results, whichever is nearer."
)


def read(path: Path) -> list[dict[str, Any]]:
    """Of a file's lines the newest of each kind, with what was said of its run under "about"; cut ones are left out."""
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
        measured = next((kind for kind in ("kernels", "planned") if kind in line), "")
        key = line["stage"], line["name"], line.get("agents"), line.get("deterministic", False), measured
        if "error" not in line or key not in newest:
            newest[key] = line | {"about": said}
    return list(newest.values())


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


def runs(found: list[dict[str, Any]]) -> list[str]:
    """What measured them."""
    abouts = {json.dumps(line["about"]): line["about"] for line in found}.values()
    return [
        f"`{x['command']}`, commit {x['commit']}, {x['date']}, {x['device']} with {x['cores']} cores, jax {x['jax']}, "
        f"float32 products at precision {x['precision']}."
        for x in abouts
    ]


def in_brief(found: list[dict[str, Any]]) -> list[str]:
    """A row a task, for the README."""
    rows = [line for line in found if line["stage"] == "fast" and "rate" in line]
    text = [f"| on {found[0]['about']['device']} | agents | a second, of all agents |", "|---|---:|---:|"]
    return text + [f"| {row['name']} | {row['agents']:,} | {row['rate']:,.0f} {row['what']} |" for row in rows]


def tables(found: list[dict[str, Any]]) -> list[str]:
    """The tables of one device: what it can do, right, fast, where the time goes, learning, what is missing."""
    of = lambda *stages: [line for line in found if line["stage"] in stages and "error" not in line]  # noqa: E731
    peak = {line["name"]: line["rate"] for line in of("peaks")}
    text = []
    if peak:
        rates = [f"{name} {rate / 1e12:.3g} T{line}/s" for name, rate, line in _rates(peak)]
        text += [f"What the device reaches in large products and a large copy: {', '.join(rates)}.", ""]
    if rows := of("fast"):
        text += _fast(rows, peak)
    if rows := [line for line in of("fast") if "kernels" in line]:
        text += _kernels(rows)
    if rows := of("right"):
        text += _right(rows)
    if rows := of("learning"):
        text += _learnt(rows)
    if rows := [line for line in found if "error" in line]:
        text += ["| not there | why |", "|---|---|"]
        text += [f"| {_title(line)} | {line['error'].replace('|', '/')} |" for line in rows] + [""]
    return text


def _rates(peak: dict[str, float]) -> list[tuple[str, float, str]]:
    return [(name, rate, "B" if name == "copy" else "FLOP") for name, rate in peak.items()]


def _title(line: dict[str, Any]) -> str:
    agents = f", {line['agents']} agents" if "agents" in line else ""
    return f"{line['stage']}: {line['name']}{agents}"


def _fast(rows: list[dict[str, Any]], peak: dict[str, float]) -> list[str]:
    planned = {(row["name"], row["agents"]): row["planned"] for row in rows if "planned" in row}
    text = ["| task | agents | a second | of all agents | compiling, s | memory, MiB | planned, MiB | of the peak |"]
    text.append("|---|---:|---:|---|---:|---:|---:|---:|")
    for row in rows:
        if "rate" not in row:
            continue
        memory, plan = row["memory"] or row["program"], planned.get((row["name"], row["agents"]))
        cells = [row["name"], str(row["agents"]), f"{row['rate']:,.0f}", row["what"], f"{row['compile']:.1f}"]
        cells += [f"{memory / 2**20:,.0f}", f"{plan / 2**20:,.0f}" if plan else "", _share(row, peak)]
        text.append(f"| {' | '.join(cells)} |")
    return [*text, ""]


def _share(row: dict[str, Any], peak: dict[str, float]) -> str:
    """Of float32's peak in products, or of the copy's bandwidth in their operands: whichever is nearer."""
    shares = {"products": row["flop"] * row["updates"] / peak["float32"] if "float32" in peak else 0.0}
    shares["bandwidth"] = row["bytes"] * row["updates"] / peak["copy"] if "copy" in peak else 0.0
    nearer = max(shares, key=lambda kind: shares[kind])
    return f"{100 * shares[nearer]:.2g} % of {nearer}"


def _kernels(rows: list[dict[str, Any]]) -> list[str]:
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
                f"| {row['name']}: costliest kernels | launches | µs each | share of the time |",
                "|---|---:|---:|---:|",
            ]
            for one in row["kernels"]["costliest"]:
                cells = [f"`{one['kernel'][:60]}`", f"{one['launches']:,}", f"{one['microseconds']:.1f}"]
                text.append(f"| {' | '.join(cells)} | {100 * one['share']:.0f} % |")
            text.append("")
    return text


def _right(rows: list[dict[str, Any]]) -> list[str]:
    text = ["| contract case | parameters | State | whole numbers that differ | resumes bit for bit | deterministic |"]
    text.append("|---|---:|---:|---:|---|---|")
    plain, sure = ({x["name"]: x for x in rows if bool(x.get("deterministic")) is kind} for kind in (False, True))
    for name, row in plain.items():
        same = [{True: "yes", False: "**no**", None: ""}[x and x["resumes_bit_for_bit"]] for x in (row, sure.get(name))]
        cells = [name, f"{row['params']:.1e}", f"{row['state']:.1e}", str(row["whole_numbers_that_differ"]), *same]
        text.append(f"| {' | '.join(cells)} |")
    return [*text, ""]


def _learnt(rows: list[dict[str, Any]]) -> list[str]:
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
