"""What the papers' own tests share: cores, arrays that are kept once they are measured, and intervals of few seeds."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import chex
import numpy as np

import rlzoo
from rlzoo import report
from rlzoo.drivers.run import Run
from rlzoo.files import whole


def device_a_core(lanes: int) -> None:
    """Make a device of each core, as many as divide the lanes, for `rlzoo.spread`; to be called before JAX is used.

    Products as small as these do not fill several cores; with lanes of its own each is full: up to 1.7 times as fast.
    """
    cores = max(n for n in range(1, (os.cpu_count() or 1) + 1) if lanes % n == 0)
    os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={cores}")


def gone_on(algo: rlzoo.types.Algorithm, keys: chex.PRNGKey, updates: int, directory: Path) -> Run:
    """A sweep trained until that many updates, or gone on with; it ends the program if it is interrupted."""
    every = max(1, updates // 20)
    run = rlzoo.run(algo, keys, updates, directory=directory, resume=True, eval_episodes=0, keep=1, report_every=every)
    if run.interrupted:
        raise SystemExit(f"{directory} was cut off; the same command goes on with it")
    return run


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


def welch(what: str, ours: np.ndarray, theirs: np.ndarray) -> report.Figure:
    """The upper end of Welch's 95% interval of the means' difference, ours less theirs, [S] each: not below 0?"""
    from scipy import stats

    found = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval()
    note = f"{ours.mean() - theirs.mean():.3g} ({found.low:.3g} to {found.high:.3g})"
    return report.Figure(f"{what}, upper end", float(found.high), bar=">= 0", note=note)
