"""Pictures: learning curves, sensitivity to a swept number, heat maps. Each is saved and returned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from rlzoo.report.statistics import interval

# Okabe & Ito's colours, told apart also by the colour-blind; more than that is an ordered scale.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def curves(
    path: str | Path | None,
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    title: str = "",
    xlabel: str = "environment steps",
    ylabel: str = "return",
) -> Figure:
    """Learning curves: IQM over seeds, with its 95% stratified-bootstrap interval as a band.

    Args:
        path: where to save, by suffix PNG, PDF or SVG; None does not.
        scores: label -> (steps [K], scores [K, S]).
    """
    figure, axes = _figure(title, xlabel, ylabel)
    for (label, (steps, values)), colour in zip(scores.items(), _colours(len(scores)), strict=True):
        point, low, high = interval(np.asarray(values))
        axes.plot(steps, point, color=colour, label=label, linewidth=1.8)
        axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if len(scores) > 1:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _saved(figure, path)


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
        name: of the number. values: [H]; on a log axis if they are positive and span a factor of 20 or more.
        scores: [H, S].
    """
    order = np.argsort(np.asarray(values))
    values, scores = np.asarray(values)[order], np.asarray(scores)[order]
    figure, axes = _figure(title, name, ylabel)
    point, low, high = interval(scores)
    axes.plot(np.repeat(values, scores.shape[1]), scores.ravel(), ".", color="#999999", markersize=4, label="seeds")
    axes.plot(values, point, "o-", color=COLOURS[0], label="IQM")
    axes.fill_between(values, low, high, color=COLOURS[0], alpha=0.18, linewidth=0, label="95% interval")
    _logarithmic_if_wide(axes, values)
    axes.legend(frameon=False, fontsize=8)
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
    image = axes.imshow(np.asarray(scores), origin="lower", aspect="auto", cmap="viridis")
    axes.set_xticks(range(len(x[1])), [f"{value:.3g}" for value in x[1]])
    axes.set_yticks(range(len(y[1])), [f"{value:.3g}" for value in y[1]])
    figure.colorbar(image, label=label)
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
    figure = Figure(figsize=(3.6 * max(2, len(values)), 3.6), layout="constrained", dpi=150)
    panels = figure.subplots(1, max(1, len(values)), sharey=True, squeeze=False)[0]
    figure.suptitle(title, fontsize=11)
    for axes, (name, x) in zip(panels, values.items(), strict=False):
        x = np.asarray(x, float)
        for chosen, colour in ((whole & ~best, "#999999"), (best, COLOURS[1])):
            axes.vlines(x[chosen], scores[chosen].min(1), scores[chosen].max(1), color=colour, alpha=0.4, linewidth=1)
            axes.plot(x[chosen], means[chosen], "o", color=colour, markersize=4)
        axes.set_xlabel(name)
        _plain(axes)
        _logarithmic_if_wide(axes, x)
    panels[0].set_ylabel(ylabel)
    return _saved(figure, path)


def _logarithmic_if_wide(axes: Axes, x: np.ndarray) -> None:
    """A log axis for positive numbers that span a factor of 20 or more."""
    if x.min() > 0 and x.max() / x.min() >= 20:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())


def _plain(axes: Axes) -> None:
    axes.grid(True, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _figure(title: str, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.0, 4.2), layout="constrained", dpi=150)  # no pyplot: no window, no global state
    axes = figure.subplots()
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
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
