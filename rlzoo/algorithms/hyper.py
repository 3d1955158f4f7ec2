"""Which numbers a hyperparameter may be: the range beside each field of a `Hyper`, and what checks values against it.

    class Hyper(NamedTuple):
        gamma: Share = 0.99  # discount per environment step

The annotation is read by `ranges_of` wherever a range is said or held: the pages, the command line's help, sweep files,
samplers, and `checked`, which `make`, `rlzoo.sweep`, `rlzoo.grid`, `rlzoo.train` and `rlzoo.resume` call.
"""

import functools
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, NamedTuple, TypeVar, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo import names

T = TypeVar("T", bound=type)


class Between(NamedTuple):
    """The numbers from ``low`` to ``high``; a round bracket leaves its end out."""

    low: float
    high: float
    ends: str = "[]"  # "[]", "(]", "[)" or "()"
    nan: bool = False  # whether nan asks `make` to fill a number in

    def holds(self, x: Any) -> np.ndarray:
        """Whether each number lies in the range; nan does if it has a meaning."""
        with np.errstate(over="ignore"):
            x = np.asarray(x, np.float32)  # as it is used
        above = x >= self.low if self.ends[0] == "[" else x > self.low
        below = x <= self.high if self.ends[1] == "]" else x < self.high
        return (above & below) | (np.isnan(x) & self.nan)

    def words(self) -> str:
        """Such as "between 0 and 1", or "above 0; inf is allowed"."""
        above = f"{self.low:g} or more" if self.ends[0] == "[" else f"above {self.low:g}"
        if self.low == -np.inf:
            text = "a number" if self.ends == "[]" else "a finite number"
        elif self.high == np.inf:
            text = above + ("; inf is allowed" if self.ends[1] == "]" else " and finite")
        elif self.ends == "[]":
            text = f"between {self.low:g} and {self.high:g}"
        else:
            text = above + (f", up to {self.high:g}" if self.ends[1] == "]" else f" and below {self.high:g}")
        return text + (", or nan" if self.nan else "")

    def __str__(self) -> str:
        """Such as "[0, 1]", "(0, inf]", "(-inf, inf) or nan"."""
        return f"{self.ends[0]}{self.low:g}, {self.high:g}{self.ends[1]}" + (" or nan" if self.nan else "")


INF = float("inf")
ANY = Between(-INF, INF)

Rate = Annotated[float, Between(0.0, INF, "[)")]  # a learning rate; 0 leaves its part as it is
Steps = Annotated[float, Between(0.0, INF, "(]")]  # after which something ends; inf: never
Bound = Annotated[float, Between(0.0, INF, "(]")]  # of a norm, a ratio or a change; inf: none
Weight = Annotated[float, Between(0.0, INF, "[)")]  # of a term; 0 leaves it out
Positive = Annotated[float, Between(0.0, INF, "()")]  # what is divided by, or has a logarithm
Share = Annotated[float, Between(0.0, 1.0)]  # discounts, traces, steps towards
Decay = Annotated[float, Between(0.0, 1.0, "[)")]  # of an average that has to move
Limit = Annotated[float, Between(0.0, INF)]  # of what may be nothing; inf: none
Inner = Annotated[float, Between(0.0, 1.0, "()")]
Real = Annotated[float, Between(-INF, INF, "()")]
Level = Annotated[float, ANY]  # that something has to reach; infinite: always, or never
Entropy = Annotated[float, Between(-INF, INF, "()", nan=True)]


@functools.lru_cache(maxsize=64)
def ranges_of(cls: type) -> dict[str, Between]:
    """The range of each field of a `Hyper` that has one; one's own `Hyper` of plain floats has none."""
    hints = get_type_hints(cls, include_extras=True)
    found = {name: getattr(hints[name], "__metadata__", ()) for name in getattr(cls, "_fields", ()) if name in hints}
    return {name: x for name, marks in found.items() for x in marks if isinstance(x, Between)}


def checked(hyper: Any, name: str = "hyper", made: bool = False) -> Any:
    """The numbers themselves, if all that are known are in range; those that are traced cannot be seen.

    Args:
        name: what errors call them. made: `make` has seen them, and no nan is left for it to fill in.
    Raises:
        ValueError: something that is no number, or one outside of its field's range; in an array with its place.
    """
    if not hasattr(hyper, "_asdict"):
        raise ValueError(f"{name} is a {type(hyper).__name__}; it must be the algorithm's Hyper, such as ppo.Hyper()")
    ranges = ranges_of(hyper.__class__)
    for field, given in hyper._asdict().items():
        usual = type(given) is float and (1e-30 < abs(given) < 1e30 or given == 0.0)  # in float32 too
        if usual and field in ranges and ranges[field].low < given < ranges[field].high:
            continue  # the most frequent case, and the cheapest
        if isinstance(given, jax.core.Tracer) or not getattr(given, "is_fully_addressable", True):
            continue
        _number(f"{name}.{field}", given)
        if field in ranges:
            try:
                in_range(f"{name}.{field}", given, ranges[field]._replace(nan=ranges[field].nan and not made))
            except ValueError as error:
                raise ValueError(f"{error} ({_meaning(type(hyper), field)})") from None
    ends = [getattr(hyper, end, None) for end in ("value_low", "value_high")]
    if ends[0] is not None and not any(isinstance(x, jax.core.Tracer) for x in ends) and np.any(ends[0] >= ends[1]):
        raise ValueError(f"{name}.value_low={ends[0]} is not below value_high={ends[1]}; they are the ends of the bins")
    return hyper


def filled(hyper: Any, **defaults: float) -> Any:
    """The numbers, `checked`, with a default for each nan."""
    checked(hyper)
    return hyper._replace(**{name: x for name, x in defaults.items() if np.isnan(getattr(hyper, name)).all()})


def in_range(name: str, given: Any, allowed: Between) -> None:
    """Raise a `ValueError` for a number, or the first of several, that a field's range does not hold."""
    outside = np.flatnonzero(~np.ravel(allowed.holds(given)))
    if outside.size:
        of = f" of setting {outside[0]}" if np.ndim(given) else ""
        worst = float(np.ravel(np.asarray(given, float))[outside[0]])
        raise ValueError(f"{name}={worst:g}{of}; it must be {allowed.words()}")


def _meaning(cls: type, field: str) -> str:
    with suppress(OSError, TypeError):  # of a class that was typed in there is no source
        return names.comments(cls).get(field, cls.__name__)
    return cls.__name__


def _number(name: str, given: Any) -> None:
    field = name.rpartition(".")[2]
    if isinstance(given, list | tuple):
        raise ValueError(
            f"{name} is a {type(given).__name__}; give an array, jnp.array([...]), or take "
            f"rlzoo.grid(algo.hyper, {field}=[...])"
        )
    kind = given.dtype if hasattr(given, "dtype") else np.result_type(type(given))
    real = jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)
    if isinstance(given, str) or not real:
        raise ValueError(f"{name}={given!r}; it must be a number, or in a sweep an array of numbers")


def numbers(cls: T) -> T:
    """A `Hyper` that says of a name which it does not have where it belongs, as a `ValueError`."""
    new, replace, who = cls.__new__, cls._replace, cls.__module__.rpartition(".")[2]  # type: ignore[attr-defined]

    def known(fields: Any) -> None:
        config = getattr(sys.modules.get(cls.__module__), "Config", None)
        structure = getattr(config, "__dataclass_fields__", ()) if cls.__name__ == "Hyper" else ()
        elsewhere = {f"structure, a field of {who}.Config": structure}
        names.check(f"{who}.{cls.__name__} field", fields, cls._fields, elsewhere)  # type: ignore[attr-defined]

    def wrapped(of: Callable[..., Any]) -> Any:
        @functools.wraps(of)
        def call(self: Any, /, *args: Any, **fields: Any) -> Any:
            known(fields)
            return of(self, *args, **fields)

        return call

    cls.__new__, cls._replace = wrapped(new), wrapped(replace)  # type: ignore[attr-defined, method-assign]
    return cls
