"""Pictures: learning curves, sensitivity to a swept number, heat maps. Each is saved and returned."""

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, NullFormatter

from rlzoo.report.statistics import interval, iqm
from rlzoo.report.tables import numbers

# Okabe & Ito's colours, told apart also by the colour-blind; more than that is an ordered scale.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MOST = 12  # curves that the eye follows; of more,
BEST = len(COLOURS)  # so many are drawn
WIDTH, HEIGHT = 7.0, 4.2  # inches of a picture, which a legend makes larger


def curves(
    path: str | Path | None,
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    title: str = "",
    xlabel: str = "environment steps",
    ylabel: str = "return",
) -> Figure:
    """Learning curves: IQM over seeds, with its 95% stratified-bootstrap interval as a band.

    Of more than 12 labels, the 6 with the largest last IQM are drawn; of the others in grey where their IQMs lie, all
    of them and their middle half. In the legend stands how labels differ, under what they share.

    Args:
        path: where to save, by suffix PNG, PDF or SVG; None does not.
        scores: label -> (steps [K], scores [K, S]).
    """
    figure, axes = _figure(title, xlabel, ylabel)
    centres = {label: (np.asarray(steps), iqm(np.asarray(values))) for label, (steps, values) in scores.items()}
    drawn = _best(centres) if len(scores) > MOST else list(scores)
    shared, texts = shortened(list(scores))
    handles: dict[str, Any] = {}
    for label, colour in zip(drawn, _colours(len(drawn)), strict=True):
        point, low, high = interval(np.asarray(scores[label][1]))
        (line,) = axes.plot(scores[label][0], point, color=colour, linewidth=1.8)
        axes.fill_between(scores[label][0], low, high, color=colour, alpha=0.18, linewidth=0)
        handles[texts[list(scores).index(label)]] = line
    if others := [centre for label, centre in centres.items() if label not in drawn]:
        handles[f"the other {len(others)}: range, middle half"] = _spread(axes, others)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if len(scores) > 1:
        _legend(figure, handles, shared)
    return _saved(figure, path)


def _best(centres: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[str]:
    """The labels whose last point is largest, in their own order; a failed one is NaN and no candidate."""
    last = np.array([point[-1] if len(point) else np.nan for _, point in centres.values()])
    order = np.argsort(np.where(np.isnan(last), np.inf, -last), kind="stable")[:BEST]
    return [label for place, label in enumerate(centres) if place in order]


def _spread(axes: Axes, centres: Sequence[tuple[np.ndarray, np.ndarray]]) -> Patch:
    """Where many curves lie, which may have steps of their own: from the lowest to the highest, and the middle half."""
    steps = np.unique(np.concatenate([at for at, _ in centres]))
    if not steps.size:
        return Patch(color="0.5", alpha=0.4)
    each = np.array([np.interp(steps, at, point, np.nan, np.nan) for at, point in centres if len(at)])
    with warnings.catch_warnings(action="ignore"):  # at some steps no curve may have a number
        low, first, third, high = np.nanquantile(each, [0.0, 0.25, 0.75, 1.0], axis=0)
    axes.fill_between(steps, low, high, color="0.5", alpha=0.18, linewidth=0, zorder=0)
    axes.fill_between(steps, first, third, color="0.5", alpha=0.25, linewidth=0, zorder=0)
    return Patch(color="0.5", alpha=0.4, linewidth=0)


def sensitivity(
    path: str | Path | None,
    name: str,
    values: np.ndarray,
    scores: np.ndarray,
    *,
    title: str = "",
    ylabel: str = "final return",
) -> Figure:
    """Final score over a swept number: every seed as a dot, the IQM as a line, its 95% interval as a band.

    Args:
        name: of the number.
        values: [H]; on a log axis if they are positive and span a factor of 20 or more, side by side if no axis holds
            them all, such as infinity, or 0 beside 1e-4 and 1e-2.
        scores: [H, S].
    """
    order = np.argsort(np.asarray(values))
    values, scores = np.asarray(values)[order], np.asarray(scores)[order]
    figure, axes = _figure(title, name, ylabel)
    at = _axis_of(axes, values)
    point, low, high = interval(scores)
    (dots,) = axes.plot(np.repeat(at, scores.shape[1]), scores.ravel(), ".", color="#999999", markersize=4)
    (line,) = axes.plot(at, point, "o-", color=COLOURS[0])
    band = axes.fill_between(at, low, high, color=COLOURS[0], alpha=0.18, linewidth=0)
    _legend(figure, {"seeds": dots, "IQM": line, "95% interval": band})
    return _saved(figure, path)


def heatmap(
    path: str | Path | None,
    x: tuple[str, Sequence[float]],
    y: tuple[str, Sequence[float]],
    scores: np.ndarray,
    *,
    title: str = "",
    label: str = "return",
) -> Figure:
    """Scores [len(y), len(x)] over two swept numbers, each (name, values)."""
    figure, axes = _figure(title, x[0], y[0])
    axes.grid(False)
    axes.set_facecolor("0.85")  # of cells without a number
    image = axes.imshow(np.asarray(scores), origin="lower", aspect="auto", cmap="viridis")
    _tick(axes, x[1])
    shown = slice(None, None, -(-len(y[1]) // 20))  # a line each
    axes.set_yticks(range(len(y[1]))[shown], numbers(y[1], 3)[shown])
    figure.colorbar(image).set_label(_folded(label, 40), parse_math=False)
    return _saved(figure, path)


def scatter(
    path: str | Path | None,
    values: Mapping[str, np.ndarray],
    scores: np.ndarray,
    *,
    title: str = "",
    ylabel: str = "final return",
) -> Figure:
    """Final scores over several numbers that were drawn together: a panel for each, a dot for each setting.

    A setting's dot is the mean over its seeds, and the line through it goes from the worst to the best of them; the
    best tenth of the settings are in another colour in all panels.

    Args:
        values: name -> [H]. scores: [H, S]; a setting with NaN is left out.
    """
    scores = np.asarray(scores, float)
    whole = np.isfinite(scores).all(axis=1)
    means = scores.mean(axis=1)
    best = whole & (means >= np.quantile(means[whole], 0.9)) if whole.any() else whole
    columns = min(4, max(1, len(values)))
    rows = -(-max(1, len(values)) // columns)
    figure = Figure(figsize=(3.6 * max(2, columns), 3.6 * rows), layout="constrained", dpi=150)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    figure.suptitle(_folded(title, 13 * columns + 40), fontsize=11, parse_math=False)
    for axes, (name, x) in zip(panels.flat, values.items(), strict=False):
        at = _axis_of(axes, np.asarray(x, float), width=2.6)
        for chosen, colour in ((whole & ~best, "#999999"), (best, COLOURS[1])):
            axes.vlines(at[chosen], scores[chosen].min(1), scores[chosen].max(1), color=colour, alpha=0.4, linewidth=1)
            axes.plot(at[chosen], means[chosen], "o", color=colour, markersize=4)
        axes.set_xlabel(_folded(name, 40), parse_math=False)
        _plain(axes)
    for axes in panels.flat[max(1, len(values)) :]:
        axes.remove()
    for axes in panels[:, 0]:
        axes.set_ylabel(_folded(ylabel, 40), parse_math=False)
    return _saved(figure, path)


def shortened(labels: Sequence[str]) -> tuple[str, list[str]]:
    """What labels such as ``rate=0.1, gamma=0.9`` share, and what is left of each; all of each, if in doubt.

    A name that all of them give a value to, and no other, is shared too.
    """
    parts = [label.split(", ") for label in labels]
    if len(labels) < 2 or len({len(part) for part in parts}) > 1:
        return "", list(labels)
    columns = list(zip(*parts, strict=True))
    same = [column[0] for column in columns if len(set(column)) == 1]
    differ = [column for column in columns if len(set(column)) > 1]
    heads = [{text.partition("=")[0] for text in column} for column in differ]
    if len(differ) == 1 and len(heads[0]) == 1 and all("=" in text for text in differ[0]):
        same, differ = [heads[0].pop(), *same], [tuple(text.partition("=")[2] for text in differ[0])]
    rest = [", ".join(texts) for texts in zip(*differ, strict=True)]
    first, last = min(rest), max(rest)
    start = first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)]
    start = start[: 1 + max(start.rfind(mark) for mark in " /:")]
    if len(start) >= 12:  # such as a folder
        same, rest = [*same, f"{start}…"], [text.removeprefix(start) for text in rest]
    if len(set(rest)) < len(labels) or not all(rest):
        return "", list(labels)
    return ", ".join(same), rest


def _legend(figure: Figure, handles: Mapping[str, Any], title: str = "") -> None:
    """At the right if it is narrow, else below; the picture grows by what it takes, and axes keep their size."""

    def legend(**where: Any) -> tuple[Legend, float, float]:
        while figure.legends:
            figure.legends[0].remove()
        made = figure.legend(
            list(handles.values()),
            [_folded(label, 80) for label in handles],
            title=_folded(title, 80 if where.get("ncols") else 30) or None,
            frameon=False,
            fontsize=8,
            title_fontsize=8,
            **where,
        )
        for text in [*made.get_texts(), made.get_title()]:
            text.set_parse_math(False)
        box = made.get_window_extent(FigureCanvasAgg(figure).get_renderer())
        return made, box.width / figure.dpi, box.height / figure.dpi

    _, wide, high = legend(loc="outside right center")
    if wide <= 2.6 and high <= HEIGHT - 0.4:
        figure.set_size_inches(WIDTH + max(0.0, wide - 1.6), HEIGHT)
        return
    for columns in (4, 3, 2, 1):
        _, wide, high = legend(loc="outside lower center", ncols=columns)
        if wide <= WIDTH - 0.2:
            break
    figure.set_size_inches(max(WIDTH, wide + 0.2), HEIGHT + high)


def _axis_of(axes: Axes, x: np.ndarray, width: float = 5.0) -> np.ndarray:
    """Where numbers stand on the x-axis: by their value, on a log axis if they are positive and span a factor of 20 or
    more; side by side, if one is not finite, or all of a wide span but for a 0.
    """
    sizes = np.abs(x[np.isfinite(x) & (x != 0)])
    wide = sizes.size > 1 and sizes.max() >= 20 * sizes.min()
    if np.isfinite(x).all() and not (wide and (x == 0).any() and (x >= 0).all()):
        if wide and (x > 0).all():
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        return x
    values, at = np.unique(x, return_inverse=True)
    _tick(axes, values, width)
    return at


def _tick(axes: Axes, values: Sequence[float] | np.ndarray, width: float = 5.0) -> None:
    """A tick for each value, side by side: upright if they fit so, else turned, and no more of them than fit."""
    texts = numbers(values, 3)
    room = width / max(1, len(texts))  # inches
    turned = 0.09 * max(map(len, texts), default=0) > room
    shown = slice(None, None, max(1, int(np.ceil(0.18 / room))) if turned else 1)
    axes.set_xticks(range(len(texts))[shown], texts[shown], rotation=90 if turned else 0)


def _folded(text: str, width: int) -> str:
    """In lines of at most so many characters."""
    return "\n".join(line for part in text.splitlines() for line in textwrap.wrap(part, width) or [""])


def _plain(axes: Axes) -> None:
    axes.grid(True, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _figure(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained", dpi=150)  # no pyplot: no window, no global state
    axes = figure.subplots()
    axes.set_title(_folded(title, 62), fontsize=11, parse_math=False)  # a $ is a $
    axes.set_xlabel(_folded(xlabel, 70), parse_math=False)
    axes.set_ylabel(_folded(ylabel, 40), parse_math=False)
    _plain(axes)
    return figure, axes


def _colours(count: int) -> Sequence[Any]:
    if count <= len(COLOURS):
        return COLOURS[:count]
    from matplotlib import colormaps

    return list(colormaps["viridis"](np.linspace(0.0, 0.92, count)))


def _saved(figure: Figure, path: str | Path | None) -> Figure:
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return figure
