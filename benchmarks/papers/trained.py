"""What the papers' own tests share: arrays that are kept once they are measured, and intervals of few seeds."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from rlzoo import report
from rlzoo.files import whole


def kept(path: Path, measure: Callable[[], Mapping[str, np.ndarray]] | None = None) -> dict[str, np.ndarray] | None:
    """Arrays by name: those of the file, or measured now and written, whole or not at all; None if neither."""
    if not path.exists():
        if measure is None:
            return None
        found = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as file:
            np.savez(file, **found)
    with np.load(path) as file:
        return dict(file)


def mean(what: str, scores: np.ndarray, note: str = "") -> report.Figure:
    """The mean of scores, [S] or of groups [G, S], with Student's interval: few are too few for percentiles."""
    groups = scores if scores.ndim == 2 else scores[:, None]
    middle, low, high = (float(x) for x in report.hierarchical(groups))
    return report.Figure(what, middle, low=low, high=high, note=note or f"{len(scores)} seeds")


def gain(what: str, better: np.ndarray, other: np.ndarray, above: bool) -> report.Figure:
    """Of the interval of ``better`` less ``other``, [S] of paired seeds, the end that decides.

    The lower, if the difference is to be above 0; the upper, if it is not to be below.
    """
    all_of_it = mean(what, better - other)
    end, which = (all_of_it.low, "lower") if above else (all_of_it.high, "upper")
    note = f"{all_of_it.value:.3g} ({all_of_it.low:.3g} to {all_of_it.high:.3g}) in {len(better)} pairs"
    return report.Figure(f"{what}, {which} end", end, bar=">= 0", note=note)
