"""The default suite's time and memory, as a newcomer has them: a fresh clone, a new environment, empty caches.

    python benchmarks/suite.py [--record]

The clone is of the last commit, in a temporary directory; installing is not counted. Every process of the suite is
looked at twice a second, those of commands that tests run too. Close other work first: the suite uses all cores.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from rlzoo.report.record import Figure, record

MINUTES, GIB = 10, 3  # what two cores are to do it in


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write the figures into docs/results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        clone = Path(directory) / "rlzoo"
        subprocess.run(["git", "clone", "--quiet", ".", clone], check=True)
        subprocess.run(["make", ".venv/ready", f"PYTHON={sys.executable}"], cwd=clone, check=True)
        figures, passed = measured(clone, Path(directory) / "results.xml")
    print(*figures, sep="\n")
    if not passed:
        sys.exit("The suite failed, so nothing is recorded.")
    if options.record:
        print(record("The default suite", figures))


def measured(clone: Path, results: Path) -> tuple[list[Figure], bool]:
    """The figures of the suite of a clone, and whether it passed."""
    own = ("RLZOO_TEST_CACHE", "JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS", "PYTHONPATH", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    environment["PYTEST_ADDOPTS"] = f"--junit-xml={results}"
    began = time.perf_counter()
    suite = subprocess.Popen(["make", "suite"], cwd=clone, env=environment)
    peaks: dict[int, int] = {}  # KiB, by process
    while suite.poll() is None:
        for pid in family(suite.pid):
            peaks[pid] = max(peaks.get(pid, 0), peak(pid))
        time.sleep(0.5)
    seconds = time.perf_counter() - began
    if not results.exists():
        sys.exit("The suite ended before it wrote its results.")
    counts = ElementTree.parse(results).getroot().find("testsuite").attrib
    skipped, failed, note = int(counts["skipped"]), suite.returncode, f"{os.cpu_count()} cores"
    others = skipped + int(counts["failures"]) + int(counts["errors"])
    figures = [
        Figure("wall time from empty caches", seconds / 60, "min", bar=f"<= {MINUTES}", note=note),
        Figure("largest process", max(peaks.values()) / 2**20, "GiB", bar=f"<= {GIB}", note=f"{len(peaks)} seen"),
        Figure("tests passed", int(counts["tests"]) - others, note=f"{skipped} skipped"),
    ]
    return figures, not failed


def family(root: int) -> set[int]:
    """A process and all that descend from it."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):  # it has ended since
            continue
    found, new = {root}, {root}
    while new := {pid for pid, parent in parents.items() if parent in new} - found:
        found |= new
    return found


def peak(pid: int) -> int:
    """KiB that a process has had in memory at its most; 0 when it has ended."""
    try:
        said = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(said[1]) if said else 0


if __name__ == "__main__":
    main()
