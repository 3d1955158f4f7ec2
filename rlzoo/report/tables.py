"""A table on the terminal: one row per setting, aggregated over seeds."""

from collections.abc import Mapping

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from rlzoo.report.statistics import interval


def table(title: str, scores: Mapping[str, np.ndarray], console: Console | None = None) -> None:
    """Print IQM, its 95% interval, mean, worst and best seed of each row; the best IQM is bold.

    Args:
        scores: label -> [S], one score a seed. A failed seed is NaN: it is counted and left out of the other columns.
    """
    grid = Table(title=title, box=box.SIMPLE_HEAD, title_style="bold")
    grid.add_column("", overflow="fold", min_width=min(40, max(map(len, scores), default=0)))
    for heading in ("IQM", "95% interval", "mean", "min", "max", "seeds"):
        grid.add_column(heading, justify="right")

    finite = {label: np.asarray(x)[np.isfinite(x)] for label, x in scores.items()}
    points = {label: interval(x) for label, x in finite.items() if x.size}
    best = max(points, key=lambda label: float(points[label].point)) if points else None
    for label, x in finite.items():
        failed = np.size(scores[label]) - x.size
        seeds = f"{x.size}" + (f" + {failed} failed" if failed else "")
        if not x.size:
            grid.add_row(label, *["–"] * 5, seeds)
            continue
        point, low, high = (float(value) for value in points[label])
        between = "–" if np.isnan(low) else f"{low:.1f} … {high:.1f}"
        cells = [f"{point:.1f}", between, f"{x.mean():.1f}", f"{x.min():.1f}", f"{x.max():.1f}", seeds]
        grid.add_row(label, *cells, style="bold" if label == best and len(points) > 1 else None)
    (console or Console()).print(grid)
