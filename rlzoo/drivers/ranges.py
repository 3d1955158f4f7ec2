"""Where hyperparameters are drawn from: ranges, choices, and the samplers of a sweep."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rlzoo import machine, names
from rlzoo.algorithms.hyper import Between, in_range, ranges_of

SCALES = ("linear", "log", "log_complement")
METHODS = ("random", "sobol")
DRAWN = 64  # bytes of memory that a number takes while it is drawn


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``, evenly spread on a scale.

    ``linear``: in x; ``log``: in log x, for learning rates; ``log_complement``: in log(1 - x), for discounts, of which
    0.9 and 0.99 are as far from each other as 0.99 and 0.999.
    """

    low: float
    high: float
    scale: str = "linear"

    def at(self, share: Any) -> Any:
        """The numbers that lie so far into the range: [0, 1] onto [low, high]; in NumPy for arrays of it."""
        xp: Any = np if isinstance(share, np.ndarray) else jnp
        low, high = (_onto(self.scale, x) for x in self[:2])
        x = low + share * (high - low)
        x = {"linear": lambda: x, "log": lambda: xp.exp(x), "log_complement": lambda: -xp.expm1(x)}[self.scale]()
        return xp.clip(x, self.low, self.high)

    def multiplied(self, x: Any, factor: Any) -> Any:
        """x, or on ``log_complement`` 1 - x, times a factor, and not beyond the ends."""
        moved = 1.0 - factor * (1.0 - x) if self.scale == "log_complement" else factor * x
        return jnp.clip(moved, self.low, self.high)

    def check(self, name: str, allowed: Between | None = None) -> None:
        """Raise a `ValueError` that names what cannot be, such as an end that the field's own range does not hold."""
        if not isinstance(self.scale, str):
            raise ValueError(f"{name}: scale={self.scale!r}; it must be one of {', '.join(SCALES)}")
        names.check(f"scale of {name}", [self.scale], SCALES)
        given = f"{name}: low={self.low!r}, high={self.high!r}, scale={self.scale!r}"
        numbers = all(isinstance(x, int | float | np.number) and np.isfinite(x) for x in self[:2])
        if not numbers or self.low >= self.high:
            raise ValueError(f"{given}; low must be less than high, and both finite numbers")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"{given}; a log scale needs a low above 0")
        if self.scale == "log_complement" and self.high >= 1:
            raise ValueError(f"{given}; a log_complement scale needs a high below 1")
        if allowed is not None:
            in_range(f"{name}: low", self.low, allowed)
            in_range(f"{name}: high", self.high, allowed)


def _onto(scale: str, x: float) -> float:
    if scale == "linear":
        return float(x)
    return float(np.log(x) if scale == "log" else np.log1p(-x))


def sample(
    hyper: Any, num_settings: int, method: str = "sobol", seed: int = 0, **ranges: Range | Sequence[float]
) -> Any:
    """``num_settings`` settings drawn from ranges and choices, as one `Hyper` whose named leaves are arrays [H].

        rlzoo.sample(algo.hyper, 64, learning_rate=rlzoo.Range(1e-5, 1e-2, "log"), entropy_coef=[0.0, 0.01])

    Args:
        method: ``sobol``, a scrambled low-discrepancy sequence, which leaves no part empty, or ``random``.
        seed: of either.
        ranges: field -> `Range`, or a sequence of numbers to choose from.
    Raises:
        ValueError: an unknown field or method, an empty or impossible range, a number out of its field's; a pair.
    """
    names.check("hyperparameter", ranges, hyper._fields)
    for name, given in ranges.items():
        if isinstance(given, tuple) and not isinstance(given, Range) and len(given) == 2:
            raise ValueError(
                f"{name}={given} may be a range or two choices; say rlzoo.Range({given[0]}, {given[1]}), or the list "
                f"[{given[0]}, {given[1]}]"
            )
    check_ranges(type(hyper), ranges)
    columns = drawn(num_settings, method, seed, ranges)
    return hyper._replace(**{name: jnp.asarray(x, jnp.float32) for name, x in columns.items()})


def check_ranges(cls: type, given: Mapping[str, Any], prefix: str = "") -> None:
    """Raise for a `Range`, or numbers, of a field of a `Hyper` beyond what the field may be."""
    allowed = ranges_of(cls)
    for name, of in given.items():
        if isinstance(of, Range):
            of.check(prefix + name, allowed.get(name))
        elif name in allowed and np.ndim(of) <= 1 and np.asarray(of).dtype.kind in "fiu":
            in_range(prefix + name, of, allowed[name])


def drawn(num_settings: int, method: str, seed: int, ranges: Any) -> dict[str, np.ndarray]:
    """Name -> numbers [num_settings]."""
    names.check("sampler", [method], METHODS)
    if not isinstance(num_settings, int) or num_settings < 1:
        raise ValueError(f"num_settings={num_settings!r}; it must be a whole number, 1 or more")
    machine.refuse_more("settings to draw", num_settings, DRAWN * max(1, len(ranges)))
    names.check_seed("seed", seed)
    if not ranges:
        raise ValueError("nothing to sample: name a hyperparameter and its range, or numbers to choose from")
    for name, given in ranges.items():
        if isinstance(given, Range):
            given.check(name)
        elif np.ndim(given) != 1 or not len(given):
            raise ValueError(f"{name} is {given!r}; give a Range, or a sequence of numbers to choose from")
    shares = _shares(num_settings, method, seed, len(ranges))
    return {name: _numbers(given, share) for (name, given), share in zip(ranges.items(), shares.T, strict=True)}


def _shares(num_settings: int, method: str, seed: int, num_ranges: int) -> np.ndarray:
    """[H, D] in [0, 1)."""
    if method == "random":
        return np.random.default_rng(seed).random((num_settings, num_ranges))
    from scipy.stats import qmc

    # A sequence is balanced at powers of two; any beginning of it is well spread.
    powers = (num_settings - 1).bit_length()
    return qmc.Sobol(num_ranges, rng=np.random.default_rng(seed)).random_base2(powers)[:num_settings]


def _numbers(given: Range | Sequence[float], share: np.ndarray) -> np.ndarray:
    if isinstance(given, Range):
        return np.asarray(given.at(share))
    return np.asarray(given, float)[(share * len(given)).astype(int)]
