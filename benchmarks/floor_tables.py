"""The tables of docs/performance.md, made of what `benchmarks/floors.py` recorded and of an accelerator's lines."""

import json
from pathlib import Path
from typing import Any

import device_tables

MAKER = {"float32": 67e12, "bfloat16": 989e12, "copy": 3.35e12}  # an H100 SXM by its maker's data sheet, dense


def parts(directory: Path) -> dict[str, list[str]]:
    """By the names of the page's markers."""
    record = json.loads((directory / "floors_cpu.json").read_text())
    devices = [device_tables.read(path) for path in sorted(directory.glob("accelerator_*.jsonl"))]
    about = record["about"]
    said = f"`{about['command']}`, commit {about['commit']}, {about['date']}, {about['hardware']}, jax {about['jax']}."
    return {
        "paper": paper(record),
        "floors": floors(record, devices),
        "launches": launches(record, devices),
        "trials": [*trials(record), "", said],
    }


def paper(record: dict[str, Any]) -> list[str]:
    text = ["| one update of one agent | MFLOP of products | their operands and results, MB | FLOP a byte "]
    text[0] += "| steps one after another |"
    text.append("|---|---:|---:|---:|---|")
    for row in record["paper"]:
        steps = " + ".join(f"{n} {what}" for what, n in row["steps"].items())
        cells = [f"{row['flop'] / 1e6:,.0f}", f"{row['bytes'] / 1e6:,.0f}", f"{row['flop'] / row['bytes']:.1f}"]
        text.append(f"| {row['task']} | {' | '.join(cells)} | {steps} = {sum(row['steps'].values())} |")
    return text


def floors(record: dict[str, Any], devices: list[Any]) -> list[str]:
    """Microseconds of an update of one agent: by products, by bytes, and as it is."""
    text = [
        "| one update of one agent, µs | float32 products | bytes at a copy's pace | measured | of the nearer floor |"
    ]
    text.append("|---|---:|---:|---:|---:|")
    sides = [(record["about"]["hardware"], record["peaks"], {row["task"]: row["seconds"] for row in record["paper"]})]
    for lines in devices:
        measured = {row["name"]: 1 / row["updates"] for row in _of_one_agent(lines) if "updates" in row}
        sides.append((lines[0]["about"]["device"], _peaks(lines), measured))
    sides.append(("H100 SXM, its maker's figures", MAKER, {}))
    for row in record["paper"]:
        for name, peak, measured in sides:
            least = row["flop"] / peak["float32"], row["bytes"] / peak["copy"]
            taken = measured.get(row["task"])
            cells = [f"{1e6 * x:,.1f}" for x in least]
            cells += [f"{1e6 * taken:,.0f}", f"{taken / max(least):,.3g} ×"] if taken else ["not measured", ""]
            text.append(f"| {row['task']}, {name} | {' | '.join(cells)} |")
    reached = [
        f"{name} {rate / 1e9:,.0f} G{'B' if name == 'copy' else 'FLOP'}/s" for name, rate in record["peaks"].items()
    ]
    return [*text, "", f"Reached here in large products and a large copy: {', '.join(reached)}."]


def _of_one_agent(lines: list[Any]) -> list[Any]:
    """Those under flags first, so that by name the others replace them."""
    return sorted((row for row in lines if row.get("agents") == 1), key=lambda row: not row["about"]["flags"])


def _label(row: Any) -> str:
    return ", ".join(filter(None, (row["name"], row["about"]["device"], row["about"]["flags"])))


def _peaks(lines: list[Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in lines:
        if line["stage"] == "peaks" and "rate" in line:
            found[line["name"]] = max(line["rate"], found.get(line["name"], 0.0))
    return found


def launches(record: dict[str, Any], devices: list[Any]) -> list[str]:
    text = ["| one update of one agent | kernels | µs measured | µs a kernel |", "|---|---:|---:|---:|"]
    rows = [(f"{x['task']}, {record['about']['hardware']}", x["kernels"], x["seconds"]) for x in record["paper"]]
    for lines in devices:
        of_one = _of_one_agent(lines)[::-1]
        counted = {row["name"]: row["kernels"]["launches"] for row in of_one if "kernels" in row}
        rows += [
            (_label(row), counted[row["name"]], 1 / row["updates"])
            for row in of_one
            if row["name"] in counted and "updates" in row
        ]
    for name, kernels, seconds in rows:
        text.append(f"| {name} | {kernels:,.0f} | {1e6 * seconds:,.0f} | {1e6 * seconds / kernels:.2f} |")
    return text


def trials(record: dict[str, Any]) -> list[str]:
    text = [
        "| trial | agents | speed, times that without it | compiling, processor seconds | temporary, MiB | kernels |"
    ]
    text.append("|---|---:|---:|---:|---:|---:|")
    for row in record["trials"]:
        speed = f"{row['speed']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        pairs = [f"{row['compile_before']:.1f} → {row['compile']:.1f}"]
        pairs.append(f"{row['temporary_before'] / 2**20:,.1f} → {row['temporary'] / 2**20:,.1f}")
        pairs.append(f"{row['kernels_before']:,.0f} → {row['kernels']:,.0f}")
        text.append(f"| {row['trial']} | {row['agents']} | {speed} | {' | '.join(pairs)} |")
    return text
