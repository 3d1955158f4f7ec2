"""Mixed datasets: good trajectories drawn more often (Hong et al. 2023, arXiv:2306.13085), as an option of the data.

    RW   score_i = (G_i - min G) / (max G - min G),   G_i the return of trajectory i
    AW   A_i = G_i - V(s_i0), scored likewise, V a least-squares fit, with intercept, of G on first observations
    p    of a row of trajectory i: exp(score_i / alpha), over the sum over all rows
    top  uniform over the rows of the best share of trajectories

The rows of good trajectories make an *implied* behaviour that is better, near which offline algorithms stay. AW leaves
out what the start explains. Moments of observations stay those of the unweighted data.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo import names
from rlzoo.data.dataset import Dataset, concatenate

BY = ("advantage", "return", "top")


def weighted(dataset: Dataset, by: str = "advantage", alpha: float = 0.1, share: float = 0.1) -> Dataset:
    """The same data, whose rows offline algorithms draw in proportion to `Dataset.weight`.

    Pieces of a trajectory that a time limit or a dropped row cut off count as trajectories. Weights are not saved with
    the data: weigh it after loading.

    Args:
        by: "advantage" (AW), "return" (RW), or "top", the floor of ``share`` of the trajectories with the best returns.
        alpha: temperature of the scores, which lie in [0, 1]; the authors' 0.1. inf draws rows uniformly.
    Raises:
        ValueError: a number out of its range, or no trajectory among the best.
    """
    names.check("by", [by], BY)
    returns = dataset.episode_returns()
    lengths = np.diff(dataset.ends(), prepend=-1)
    if by == "top":
        count = int(np.floor(share * len(returns))) if 0.0 < share <= 1.0 else 0
        if not count:
            raise ValueError(f"share={share} of {len(returns)} trajectories is none; use more, at most 1")
        weight = np.zeros(len(returns))
        weight[np.argsort(-returns, kind="stable")[:count]] = 1.0
    else:
        if not alpha > 0.0:
            raise ValueError(f"alpha={alpha}; it must be above 0; inf draws rows uniformly")
        scores = returns if by == "return" else returns - _explained(dataset, returns)
        spread = scores.max() - scores.min()
        scores = (scores - scores.max()) / (spread if spread > 0.0 else 1.0)  # from -1 to 0: nothing overflows
        weight = np.exp(scores / alpha)
    rows = np.repeat(weight, lengths)
    return replace(dataset, weight=jnp.asarray(rows / rows.sum(), jnp.float32))


def _explained(dataset: Dataset, returns: np.ndarray) -> np.ndarray:
    """What first observations explain of returns: least squares with an intercept, of the least norm."""
    starts = np.concatenate([[0], dataset.ends()[:-1] + 1])
    first = np.asarray(dataset.obs, np.float64)[starts].reshape(len(starts), -1)
    inputs = np.column_stack([first, np.ones(len(first))])
    return inputs @ np.linalg.lstsq(inputs, returns, rcond=None)[0]


def mix(good: Dataset, bad: Dataset, share: float) -> Dataset:
    """As many rows as ``bad`` has, of which a ``share`` are the first of ``good``, and the others the first of ``bad``.

    Such as random-expert-1%: ``mix(expert, random, 0.01)``.

    Raises:
        ValueError: ``good`` has too few rows, or a share outside of (0, 1).
    """
    count = round(share * bad.num_rows) if 0.0 < share < 1.0 else 0
    if not 0 < count < bad.num_rows or count > good.num_rows:
        raise ValueError(
            f"share={share} of {bad.num_rows:,} rows is {count:,}; it must be 1 or more, of the {good.num_rows:,} that "
            "the good data have, and leave some of the bad"
        )
    parts = [_first(good, count), _first(bad, bad.num_rows - count)]
    name = f"{bad.about.name}-{good.about.name}-{100 * share:g}%"
    return concatenate(*parts, about=bad.about._replace(name=name))


def _first(dataset: Dataset, count: int) -> Dataset:
    return jax.tree.map(lambda x: x[:count], replace(dataset, weight=None))
