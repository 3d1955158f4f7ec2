"""Aggregates that stay honest with few seeds: Agarwal et al. 2021, arXiv:2108.13264."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A point estimate and its interval, arrays of one shape; the ends are NaN where there is one seed only."""

    point: np.ndarray
    low: np.ndarray
    high: np.ndarray


def iqm(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Interquartile mean: the mean of the middle half, robust as a median and sharp as a mean."""
    return stats.trim_mean(scores, 0.25, axis=axis)


def mean(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.mean(scores, axis=axis)


def interval(
    scores: np.ndarray | Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray] = iqm,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """A statistic over seeds, with its percentile-bootstrap interval, stratified by task.

    Args:
        scores: [..., S], seeds last; or a sequence of such, one per task: each task's seeds are resampled among
            themselves (its stratum) and the statistic is taken over all of them.
        confidence: of the interval. resamples: bootstrap samples. seed: of the resampling.
    Returns:
        arrays [...].
    """
    strata = [np.asarray(x, float) for x in (scores if isinstance(scores, list | tuple) else [scores])]
    point = statistic(np.concatenate(strata, axis=-1), axis=-1)
    if min(x.shape[-1] for x in strata) < 2:
        return Interval(point, np.full_like(point, np.nan), np.full_like(point, np.nan))
    # A lane that failed is NaN: its statistic is NaN too, which says so; scipy would only warn.
    with np.errstate(invalid="ignore"):
        bounds = stats.bootstrap(
            strata,
            lambda *samples, axis: statistic(np.concatenate(samples, axis=axis), axis=axis),
            vectorized=True,
            axis=-1,
            confidence_level=confidence,
            n_resamples=resamples,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return Interval(point, bounds.low, bounds.high)
