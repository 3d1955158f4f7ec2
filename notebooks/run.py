"""Run notebooks from top to bottom as they are, keep their outputs, and take pictures of them for the README.

    python notebooks/run.py [01 02 …] [--record]

Each runs in a folder of its own. `--record` writes how long they took into docs/results.md.
"""

import argparse
import base64
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from rlzoo.report import Figure, record

HERE = Path(__file__).parent
PICTURES = HERE.parent / "docs" / "pictures"
BAR = "<= 300"  # seconds


def pictures(notebook: nbformat.NotebookNode) -> list[tuple[str, bytes]]:
    """Suffix and bytes of every picture that the notebook shows, in order."""
    shown = [out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", [])]
    kinds = {"image/png": ".png", "image/gif": ".gif"}
    return [(kinds[kind], base64.b64decode(data[kind])) for data in shown for kind in kinds if kind in data]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="numbers, such as 01 (default: all)")
    parser.add_argument("--record", action="store_true", help="write the times into docs/results.md")
    options = parser.parse_args()

    for path in sorted(HERE.glob("*.ipynb")):
        if options.only and path.stem[:2] not in options.only:
            continue
        notebook = nbformat.read(path, as_version=4)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            NotebookClient(notebook, timeout=900, resources={"metadata": {"path": folder}}).execute()
        seconds = time.monotonic() - began
        for cell in notebook.cells:
            cell.get("metadata", {}).pop("execution", None)
        nbformat.write(notebook, path)
        for old in PICTURES.glob(f"{path.stem}_*"):
            old.unlink()
        for number, (suffix, data) in enumerate(pictures(notebook), 1):
            (PICTURES / f"{path.stem}_{number}{suffix}").write_bytes(data)
        figure = Figure("from top to bottom", seconds, "s", bar=BAR)
        print(f"{path.name}, {figure}", flush=True)
        if options.record:
            record(f"Notebook {path.stem}", [figure])


if __name__ == "__main__":
    main()
