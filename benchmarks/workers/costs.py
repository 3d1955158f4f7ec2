"""What an update costs, counted and not measured: operations and bytes of its products, kernels that are launched."""

import collections
import json
import math
import re
from typing import Any, NamedTuple

import jax


class Cost(NamedTuple):
    """Of the products (matrix products and convolutions), which any implementation has to do."""

    flop: float  # a multiplication and an addition are two
    bytes: float  # operands read once, results written once

    def __add__(self, other: "Cost") -> "Cost":  # type: ignore[override]
        return Cost(self.flop + other.flop, self.bytes + other.bytes)

    def times(self, n: float) -> "Cost":
        return Cost(n * self.flop, n * self.bytes)


def products(function: Any, *arguments: Any) -> Cost:
    """Of one call, from its jaxpr: a scan counts its length, a `while` once, of a `cond` the dearest branch."""
    return _of_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of_jaxpr(jaxpr: Any) -> Cost:
    total = Cost(0.0, 0.0)
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            depth = math.prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
            total += Cost(2.0 * math.prod(eqn.outvars[0].aval.shape) * depth, _bytes(eqn))
        elif name == "conv_general_dilated":
            kernel, dimensions = eqn.invars[1].aval.shape, eqn.params["dimension_numbers"].rhs_spec
            depth = math.prod(kernel) // kernel[dimensions[0]]  # of one output: all of the kernel but its outputs
            total += Cost(2.0 * math.prod(eqn.outvars[0].aval.shape) * depth, _bytes(eqn))
        inner = [_of_jaxpr(x) for x in _jaxprs(eqn.params)]
        if name == "cond":
            total += max(inner)
        else:
            for cost in inner:
                total += cost.times(eqn.params["length"] if name == "scan" else 1)
    return total


def _bytes(eqn: Any) -> float:
    avals = [x.aval for x in (*eqn.invars, *eqn.outvars)]
    return float(sum(math.prod(x.shape) * x.dtype.itemsize for x in avals))


def _jaxprs(params: dict[str, Any]) -> list[Any]:
    found = [x for value in params.values() for x in (value if isinstance(value, tuple | list) else (value,))]
    return [getattr(x, "jaxpr", x) for x in found if hasattr(x, "eqns") or hasattr(getattr(x, "jaxpr", None), "eqns")]


# Of a compiled program's instructions those that launch nothing.
SILENT = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "while", "call", "conditional"}
SILENT |= {"partition-id", "replica-id", "opt-barrier", "add-dependency", "async-start"}  # and whatever is "-done"


def launches(text: str) -> collections.Counter[str]:
    """Kernels that a compiled program launches, by opcode, from its HLO: loops count as often as they are known to run.

    On a CPU these are its calls of compiled code.
    """
    computations: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        if opened := re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line):
            name = opened[2]
            computations[name] = []
            entry = name if opened[1] else entry
        elif name and line.startswith("  "):
            computations[name].append(line)

    def count(name: str) -> collections.Counter[str]:
        total: collections.Counter[str] = collections.Counter()
        for line in computations.get(name, ()):
            found = re.search(r" = (?:\(.*?\)|\S+) ([a-z][\w\-]*)\(", line)
            if not found:
                continue
            opcode = found[1]
            if opcode == "while":
                trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
                body = re.search(r"body=%?([\w.\-]+)", line)
                for kind, n in count(body[1]).items() if body else ():
                    total[kind] += n * (int(trips[1]) if trips else 1)
            elif opcode in ("call", "async-start", "conditional"):
                for called in re.findall(r"(?:to_apply|calls|_computation)=%?([\w.\-]+)", line):
                    total += count(called)
            if opcode not in SILENT and not opcode.endswith("-done"):  # a "-start" launched it
                total[opcode] += 1
        return total

    return count(entry)


def costliest(directory: str, most: int = 10) -> tuple[float, list[dict[str, Any]]] | None:
    """Of a trace of `jax.profiler`: kernels launched, and those that took longest; None where no device was traced."""
    from pathlib import Path

    from jax.profiler import ProfileData

    seconds: collections.Counter[str] = collections.Counter()
    times: collections.Counter[str] = collections.Counter()
    for path in Path(directory).rglob("*.xplane.pb"):
        for plane in ProfileData.from_file(str(path)).planes:
            if not plane.name.startswith("/device:"):
                continue
            for line in plane.lines:
                if line.name.startswith("Stream"):
                    for event in line.events:
                        seconds[event.name] += event.duration_ns * 1e-9
                        times[event.name] += 1
    if not times:
        return None
    whole = sum(seconds.values())
    first = [
        {"kernel": name, "launches": times[name], "microseconds": 1e6 * spent / times[name], "share": spent / whole}
        for name, spent in seconds.most_common(most)
    ]
    return float(sum(times.values())), first


def kernels(program: Any) -> dict[str, Any]:
    """Of a compiled program, what `launches` counts, as JSON values."""
    counted = launches(program.as_text())
    return {"launches": sum(counted.values()), "by_kind": json.loads(json.dumps(dict(counted.most_common())))}
