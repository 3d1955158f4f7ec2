"""Tables on the terminal: one row per setting, aggregated over seeds, or over the episodes of all of them."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from rlzoo.report.statistics import conditional_value_at_risk, interval, mean, value_at_risk


def table(title: str, scores: Mapping[str, np.ndarray], console: Console | None = None) -> None:
    """Print IQM, its 95% interval, mean, worst and best seed of each row; the best IQM, as printed, is bold.

    Args:
        scores: label -> [S], one score a seed. A failed seed is NaN: it is counted and left out of the other columns.
    """
    grid = _grid(title, scores, "IQM", "95% interval", "mean", "min", "max", "seeds")

    finite = {label: np.asarray(x)[np.isfinite(x)] for label, x in scores.items()}
    points = {label: interval(x) for label, x in finite.items() if x.size}
    best = max((f"{point.point:.1f}" for point in points.values()), key=float, default=None)
    for label, x in finite.items():
        seeds = _counted(x.size, np.size(scores[label]))
        if not x.size:
            grid.add_row(label, *["–"] * 5, seeds)
            continue
        point, low, high = (float(value) for value in points[label])
        between = "–" if np.isnan(low) else f"{low:.1f} … {high:.1f}"
        cells = [f"{point:.1f}", between, f"{x.mean():.1f}", f"{x.min():.1f}", f"{x.max():.1f}", seeds]
        grid.add_row(label, *cells, style="bold" if cells[0] == best and len(points) > 1 else None)
    (console or Console()).print(grid)


def risks(
    title: str,
    returns: Mapping[str, np.ndarray],
    levels: Sequence[float] = (0.1,),
    columns: Mapping[str, Sequence[float]] | None = None,
    console: Console | None = None,
) -> None:
    """Print mean, VaR and CVaR of each row's episodes, those of all its seeds together: larger is better in all.

    Args:
        returns: label -> [..., E], such as [S, E] of S seeds; NaN, of failed ones, are counted and left out.
        levels: of the risk measures.
        columns: further ones, heading -> a number for each row.
    """
    named = [f"{name} {level:g}" for level in levels for name in ("VaR", "CVaR")]
    grid = _grid(title, returns, "mean", *named, "episodes", *(columns or ()))
    for row, (label, x) in enumerate(returns.items()):
        pooled = np.ravel(x)
        pooled = pooled[~np.isnan(pooled)]
        episodes = _counted(pooled.size, np.size(x))
        if not pooled.size:
            grid.add_row(label, *["–"] * (1 + len(named)), episodes, *["–"] * len(columns or {}))
            continue
        measures = [f(pooled, level) for level in levels for f in (value_at_risk, conditional_value_at_risk)]
        numbers = (f"{number:.1f}" for number in (pooled.mean(), *measures))
        grid.add_row(label, *numbers, episodes, *(f"{x[row]:.3g}" for x in (columns or {}).values()))
    (console or Console()).print(grid)


def grids(title: str, returns: Mapping[str, np.ndarray], console: Console | None = None) -> None:
    """Print how each row's policies do over a grid of environment parameters, such as masses times lengths.

    Mean of all cells with its 95% interval over seeds, worst cell, mean of the worst tenth of the cells, and in how
    many cells no other row is better; cells are averaged over seeds but for the interval. Larger is better in all.

    Args:
        returns: label -> [S, M], one number for each seed and cell, the same M cells in all rows. Seeds with a NaN
            anywhere are counted and left out.
    """
    grid = _grid(title, returns, "mean", "95% interval", "worst cell", "worst tenth", "best in cells", "seeds")
    whole = {label: x[np.isfinite(x).all(axis=1)] for label, x in ((k, np.asarray(x)) for k, x in returns.items())}
    cells = {label: x.mean(axis=0) for label, x in whole.items() if len(x)}
    sizes = {x.shape[1] for x in whole.values()}
    if len(sizes) > 1:
        raise ValueError(f"rows have {sorted(sizes)} cells; they must be the same ones")
    best = np.max(list(cells.values()), axis=0) if cells else np.zeros(0)
    for label, x in whole.items():
        seeds = _counted(len(x), len(returns[label]))
        if label not in cells:
            grid.add_row(label, *["–"] * 5, seeds)
            continue
        point, low, high = (float(value) for value in interval(x.mean(axis=1), mean))
        between = "–" if np.isnan(low) else f"{low:.1f} … {high:.1f}"
        each = cells[label]
        numbers = (f"{point:.1f}", between, f"{each.min():.1f}", f"{conditional_value_at_risk(each, 0.1):.1f}")
        grid.add_row(label, *numbers, f"{(each >= best).sum()} of {each.size}", seeds)
    (console or Console()).print(grid)


def numbers(values: Sequence[float]) -> list[str]:
    """Numbers as texts, with no more digits than tell them apart, and six at the least."""
    texts: list[str] = []
    for digits in range(6, 18):
        texts = [f"{value:.{digits}g}" for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts


def _grid(title: str, labels: Collection[str], *headings: str) -> Table:
    """A column of labels, then numbers."""
    grid = Table(title=title, box=box.SIMPLE_HEAD, title_style="bold")
    grid.add_column("", overflow="fold", min_width=min(40, max(map(len, labels), default=0)))
    for heading in headings:
        grid.add_column(heading, justify="right")
    return grid


def _counted(there: int, asked: int) -> str:
    """Such as 7 + 1 failed."""
    return f"{there}" + (f" + {asked - there} failed" if asked > there else "")
