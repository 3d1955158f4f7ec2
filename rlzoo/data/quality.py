"""What is in a dataset: returns, how good its behaviour is, and how much of the space it covers."""

from typing import NamedTuple

import numpy as np

from rlzoo.data.dataset import Dataset, normalised_score


class Quality(NamedTuple):
    """A dataset in numbers; the measures are those of Schweighofer et al. 2022, arXiv:2111.04714."""

    num_rows: int
    num_episodes: int
    returns: np.ndarray  # f64[episodes], undiscounted; cut ones count as they are
    trajectory_quality: float  # TQ: mean return, 0 at the random policy's and 1 at the expert's; NaN if unknown
    coverage: float  # SACo: distinct (obs, action) cells over those of the reference; without one, over the rows

    def __str__(self) -> str:
        counts, edges = np.histogram(self.returns, bins=min(10, max(1, len(self.returns))))
        bars = "".join(" ▁▂▃▄▅▆▇█"[round(8 * count / counts.max())] for count in counts)
        return (
            f"{self.num_rows:,} transitions in {self.num_episodes:,} episodes; mean return {self.returns.mean():.4g}, "
            f"{edges[0]:.4g} |{bars}| {edges[-1]:.4g}; TQ {self.trajectory_quality:.3f}, SACo {self.coverage:.3f}"
        )


def quality(dataset: Dataset, reference: Dataset | None = None, bins: int = 10) -> Quality:
    """Measure a dataset.

    Args:
        reference: whose cells are 1, such as the replay data of the same run; default: none.
        bins: cells per dimension, between the least and the greatest value of the reference or of the dataset.
    """
    returns, about = dataset.episode_returns(), dataset.about
    score = np.nan
    if about.random_score is not None and about.expert_score is not None:
        score = float(normalised_score(about, returns).mean()) / 100.0
    other = dataset if reference is None else reference
    low, high = _pairs(other).min(0), _pairs(other).max(0)
    most = dataset.num_rows if reference is None else _cells(reference, low, high, bins)
    return Quality(dataset.num_rows, len(returns), returns, score, _cells(dataset, low, high, bins) / most)


def _pairs(dataset: Dataset) -> np.ndarray:
    """(obs, action) as vectors [N, D]."""
    parts = (np.asarray(x, np.float64).reshape(dataset.num_rows, -1) for x in (dataset.obs, dataset.action))
    return np.concatenate(list(parts), axis=1)


def _cells(dataset: Dataset, low: np.ndarray, high: np.ndarray, bins: int) -> int:
    """How many cells of a grid have a row in them."""
    width = np.where(high > low, high - low, 1.0)
    cells = np.clip((_pairs(dataset) - low) / width * bins, 0, bins - 1).astype(np.int16)
    return len(np.unique(cells, axis=0))
