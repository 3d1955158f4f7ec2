"""Tables on the terminal: one row per setting, aggregated over seeds, or over the episodes of all of them.

Where a terminal is narrow, labels are folded and columns go on in a second table under the first: no number is cut, and
none is left out.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlzoo.report.statistics import conditional_value_at_risk, interval, mean, value_at_risk


def table(title: str, scores: Mapping[str, np.ndarray], console: Console | None = None) -> None:
    """Print IQM, its 95% interval, mean, worst and best seed of each row; the best IQM, as printed, is bold.

    Args:
        scores: label -> [S], one score a seed. A failed seed is NaN: it is counted and left out of the other columns.
    """
    grid = _Grid(title, "IQM", "95% interval", "mean", "min", "max", "seeds")

    finite = {label: np.asarray(x)[np.isfinite(x)] for label, x in scores.items()}
    points = {label: interval(x) for label, x in finite.items() if x.size}
    said = _written(finite.values())
    best = max((said(point.point) for point in points.values()), key=float, default=None)
    for label, x in finite.items():
        seeds = _counted(x.size, np.size(scores[label]))
        if not x.size:
            grid.add(label, *["–"] * 5, seeds)
            continue
        point, low, high = (float(value) for value in points[label])
        between = "–" if np.isnan(low) else f"{said(low)} … {said(high)}"
        cells = [said(point), between, said(x.mean()), said(x.min()), said(x.max()), seeds]
        grid.add(label, *cells, bold=cells[0] == best and len(points) > 1)
    grid.show(console or Console())


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
    grid = _Grid(title, "mean", *named, "episodes", *(columns or ()))
    said = _written(returns.values())
    for row, (label, x) in enumerate(returns.items()):
        pooled = np.ravel(x)
        pooled = pooled[~np.isnan(pooled)]
        episodes = _counted(pooled.size, np.size(x))
        if not pooled.size:
            grid.add(label, *["–"] * (1 + len(named)), episodes, *["–"] * len(columns or {}))
            continue
        measures = [f(pooled, level) for level in levels for f in (value_at_risk, conditional_value_at_risk)]
        further = (f"{x[row]:.3g}" for x in (columns or {}).values())
        grid.add(label, *map(said, (pooled.mean(), *measures)), episodes, *further)
    grid.show(console or Console())


def grids(title: str, returns: Mapping[str, np.ndarray], console: Console | None = None) -> None:
    """Print how each row's policies do over a grid of environment parameters, such as masses times lengths.

    Mean of all cells with its 95% interval over seeds, worst cell, mean of the worst tenth of the cells, and in how
    many cells no other row is better; cells are averaged over seeds but for the interval. Larger is better in all.

    Args:
        returns: label -> [S, M], one number for each seed and cell, the same M cells in all rows. Seeds with a NaN
            anywhere are counted and left out.
    """
    grid = _Grid(title, "mean", "95% interval", "worst cell", "worst tenth", "best in cells", "seeds")
    whole = {label: x[np.isfinite(x).all(axis=1)] for label, x in ((k, np.asarray(x)) for k, x in returns.items())}
    cells = {label: x.mean(axis=0) for label, x in whole.items() if len(x)}
    sizes = {x.shape[1] for x in whole.values()}
    if len(sizes) > 1:
        raise ValueError(f"rows have {sorted(sizes)} cells; they must be the same ones")
    best = np.max(list(cells.values()), axis=0) if cells else np.zeros(0)
    said = _written(cells.values())
    for label, x in whole.items():
        seeds = _counted(len(x), len(returns[label]))
        if label not in cells:
            grid.add(label, *["–"] * 5, seeds)
            continue
        point, low, high = (float(value) for value in interval(x.mean(axis=1), mean))
        between = "–" if np.isnan(low) else f"{said(low)} … {said(high)}"
        each = cells[label]
        tail = said(conditional_value_at_risk(each, 0.1))
        grid.add(label, said(point), between, said(each.min()), tail, f"{(each >= best).sum()} of {each.size}", seeds)
    grid.show(console or Console())


def numbers(values: Sequence[float] | np.ndarray, least: int = 6) -> list[str]:
    """Numbers as texts, of no more digits than tell each from its neighbours, and of so many at the least."""
    given = np.asarray(values, float)
    finite = np.unique(given[np.isfinite(given)])
    near = 0.1 * np.diff(finite).min() if finite.size > 1 else 1e300
    texts: list[str] = []
    for digits in range(least, 18):
        texts = [f"{value:.{digits}g}" for value in given]
        if np.allclose([float(f"{x:.{digits}g}") for x in finite], finite, rtol=0.0, atol=near):
            break
    return texts


class _Grid:
    """A column of labels, then of numbers."""

    def __init__(self, title: str, *headings: str) -> None:
        self.title, self.headings = title, headings
        self.rows: list[tuple[str, tuple[str, ...], bool]] = []

    def add(self, label: str, *cells: str, bold: bool = False) -> None:
        self.rows.append((label, cells, bold))

    def show(self, console: Console) -> None:
        """Print it, as several tables one under another where it is too wide for one."""
        if not self._fits(console, 0, len(self.headings)):
            self.headings = tuple(heading.replace(" ", "\n") for heading in self.headings)
        first = 0
        while first < len(self.headings):
            end = first + 1
            while end < len(self.headings) and self._fits(console, first, end + 1):
                end += 1
            if self._fits(console, first, end):
                console.print(self._table(console, first, end))
            else:
                self._print_lines(console, first)
            first = end

    def _print_lines(self, console: Console, column: int) -> None:
        """Of a column that is wider than the terminal, which breaks the lines as it likes."""
        heading = self.headings[column].replace("\n", " ")
        title = [] if column else [self.title]
        lines = [*title, *(f"{label}: {heading} {cells[column]}" for label, cells, _ in self.rows)]
        console.print("\n".join(lines), soft_wrap=True, markup=False, highlight=False)

    def _fits(self, console: Console, first: int, end: int) -> bool:
        unbounded = console.options.update(width=10_000)
        return console.measure(self._table(console, first, end), options=unbounded).minimum <= console.width

    def _table(self, console: Console, first: int, end: int) -> Table:
        grid = Table(title=None if first else Text(self.title), box=box.SIMPLE_HEAD, title_style="bold")
        longest = max((len(label) for label, *_ in self.rows), default=0)
        grid.add_column("", overflow="fold", min_width=min(longest, max(8, console.width // 3)))
        for column, heading in enumerate(self.headings[first:end], first):
            wide = max(map(len, [*heading.splitlines(), *(cells[column] for _, cells, _ in self.rows)]))
            grid.add_column(heading, justify="right", no_wrap=True, min_width=wide)
        for label, row, bold in self.rows:
            grid.add_row(Text(label), *row[first:end], style="bold" if bold else None)
        return grid


def _written(scores: Iterable[np.ndarray]) -> Callable[[Any], str]:
    """How numbers of one table are written: with one decimal, or if all are below 1, three digits of the largest."""
    finite = [np.abs(x[np.isfinite(x)]) for x in map(np.asarray, scores)]
    largest = max((float(x.max()) for x in finite if x.size), default=0.0)
    decimals = 1 if largest >= 1.0 or largest < 1e-12 else 2 - math.floor(math.log10(largest))
    return lambda number: f"{number:.{decimals}f}"


def _counted(there: int, asked: int) -> str:
    """Such as 7 + 1 failed."""
    return f"{there}" + (f" + {asked - there} failed" if asked > there else "")
