"""Aggregates that stay honest with few seeds: Agarwal et al. 2021, arXiv:2108.13264."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A point estimate and its interval, arrays of one shape; the ends are NaN where there is one seed only."""

    point: np.ndarray
    low: np.ndarray
    high: np.ndarray


def iqm(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Interquartile mean: the mean of the middle half, robust as a median and sharp as a mean."""
    from scipy import stats

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
    from scipy import stats

    # A lane that failed is NaN: its statistic is NaN too, which says so; scipy would only warn.
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
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


def hierarchical(
    scores: np.ndarray,
    statistic: Callable[..., np.ndarray] = mean,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """A statistic over groups of seeds, such as datasets, with the interval for other groups of the same kind.

    Groups are resampled, and bring their seeds along: the spread of seeds is in that of the groups already, and to
    resample seeds too would count it twice. Of few groups a percentile interval is far too narrow, it cannot leave
    the range of theirs; so this is point -+ t s sqrt(G / (G - 1)), with s the standard deviation over resamples and t
    the quantile of Student's distribution of G - 1 degrees. Of the mean it is the t-interval of the groups' means.

    Args:
        scores: [..., G, S]: G groups with S seeds each. statistic: of arrays [..., G S] and ``axis``.
        confidence: of the interval. resamples: bootstrap samples. seed: of the resampling.
    Returns:
        arrays [...]; the ends are NaN where there is one group only.
    Raises:
        ValueError: no axis of groups, or groups of unequal size.
    """
    from scipy import stats

    try:
        scores = np.asarray(scores, float)
    except ValueError as error:
        raise ValueError("groups have unequal numbers of seeds; they must be [..., groups, seeds]") from error
    if scores.ndim < 2:
        raise ValueError(f"scores have shape {list(scores.shape)}; they must be [..., groups, seeds]")
    num_groups, rng = scores.shape[-2], np.random.default_rng(seed)

    def of(groups: Any) -> np.ndarray:
        drawn = scores[..., groups, :]
        return statistic(drawn.reshape(*scores.shape[:-2], -1), axis=-1)

    point = of(np.arange(num_groups))
    if num_groups < 2:
        return Interval(point, np.full_like(point, np.nan), np.full_like(point, np.nan))
    spread = np.std([of(rng.integers(num_groups, size=num_groups)) for _ in range(resamples)], axis=0)
    quantile = stats.t.ppf(0.5 + 0.5 * confidence, num_groups - 1)
    half = quantile * spread * math.sqrt(num_groups / (num_groups - 1))
    return Interval(point, point - half, point + half)


def value_at_risk(returns: np.ndarray, level: float, axis: int = -1) -> np.ndarray:
    """VaR: the lower ``level``-quantile of the return, not undercut with probability 1 - level; larger is better.

    The ceil(level M)-th smallest of M episodes: a return that was seen, nothing between two. NaN if one of them is.
    """
    return _worst(returns, level, axis)[..., -1]


def conditional_value_at_risk(returns: np.ndarray, level: float, axis: int = -1) -> np.ndarray:
    """CVaR: the mean of the ceil(level M) worst of M episodes; at most VaR, and at level 1 the mean."""
    return _worst(returns, level, axis).mean(-1)


def _worst(returns: np.ndarray, level: float, axis: int) -> np.ndarray:
    """The ceil(level M) worst episodes, on the last axis, the best of them last."""
    if not 0.0 < level <= 1.0:
        raise ValueError(f"level={level}; it must be above 0 and at most 1, such as 0.1 for the worst tenth")
    ordered = np.moveaxis(np.sort(np.asarray(returns, float), axis=axis), axis, -1)
    ordered = np.where(np.isnan(ordered).any(-1, keepdims=True), np.nan, ordered)  # sorting puts NaN among the best
    return ordered[..., : max(1, math.ceil(round(level * ordered.shape[-1], 9)))]


def paired(
    base: np.ndarray,
    other: np.ndarray,
    statistic: Callable[..., np.ndarray] = mean,
    confidence: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """By how much ``other`` is above ``base`` on the same episodes, with its percentile-bootstrap interval.

    statistic(other) - statistic(base), each over all episodes of all seeds. Seeds and episodes are resampled both, and
    alike in the two: what makes an episode hard for one and for the other cancels. With one seed the interval is over
    episodes only. Where neither seeds nor episodes have an effect of their own the interval is too wide, by up to 1.7.

    Args:
        base: returns [..., S, E] of S seeds on E episodes, as of `rlzoo.evaluate`.
        other: returns on the same episodes, as of `rlzoo.evaluate` with the same key.
        statistic: of arrays [..., M] and ``axis``, such as ``functools.partial(conditional_value_at_risk, level=0.1)``.
    Returns:
        arrays [...].
    Raises:
        ValueError: unequal shapes.
    """
    base, other = np.asarray(base, float), np.asarray(other, float)
    if base.shape != other.shape or base.ndim < 2:
        raise ValueError(
            f"returns have shapes {list(base.shape)} and {list(other.shape)}; paired episodes need the same in both, "
            "[..., seeds, episodes]"
        )
    *_, num_seeds, num_episodes = base.shape
    rng = np.random.default_rng(seed)

    def difference(seeds: Any, episodes: Any) -> np.ndarray:
        each = [x[..., seeds[:, None], episodes].reshape(*x.shape[:-2], -1) for x in (other, base)]
        return statistic(each[0], axis=-1) - statistic(each[1], axis=-1)

    samples = [
        difference(rng.integers(num_seeds, size=num_seeds), rng.integers(num_episodes, size=num_episodes))
        for _ in range(resamples)
    ]
    low, high = np.quantile(samples, [0.5 - 0.5 * confidence, 0.5 + 0.5 * confidence], axis=0)
    return Interval(difference(np.arange(num_seeds), np.arange(num_episodes)), low, high)
