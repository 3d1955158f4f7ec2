"""Spaces of others read as ours, and what no algorithm can use refused by name."""

from typing import Any

import jax
import numpy as np

from rlzoo.types import Box, Discrete, Env, MultiDiscrete, Observation, Space, mask_of, num_choices

LONGEST = np.iinfo(np.int32).max  # steps of an episode, which an int32 counts


def read(space: Any, where: str) -> Space:
    """A space of gymnax's or gymnasium's interface, or one's own with their attributes.

    Raises:
        ValueError: no plain Discrete (``n`` alone), MultiDiscrete (``nvec``, one axis) or Box (``low``, ``high``,
            ``shape``).
    """
    shape, several = getattr(space, "shape", None), hasattr(space, "nvec") or hasattr(space, "spaces")
    if np.ndim(getattr(space, "nvec", 0)) == 1 and not hasattr(space, "n") and not np.any(getattr(space, "start", 0)):
        return MultiDiscrete(tuple(int(n) for n in space.nvec))
    if hasattr(space, "n") and not several:
        whole = np.ndim(space.n) == 0 and np.isreal(space.n) and np.isfinite(space.n) and int(space.n) == space.n
        if whole and shape in (None, ()) and getattr(space, "start", 0) == 0:
            return Discrete(int(space.n))
    elif hasattr(space, "low") and hasattr(space, "high") and not several:
        shape = np.shape(space.low) if shape is None else shape
        try:
            return box(space.low, space.high, tuple(shape))
        except (TypeError, ValueError):
            pass
    raise ValueError(
        f"{where} is {_said(space)}; allowed are Discrete, the numbers 0 to n - 1 (n alone, no start or shape), "
        "MultiDiscrete (nvec of one axis, no start), and Box (low, high and shape that go together); flatten or "
        "translate others inside of the environment"
    )


def box(low: Any, high: Any, shape: tuple[int, ...]) -> Box:
    """Bounds as float32, broadcast to a shape."""
    return Box(*(np.broadcast_to(np.asarray(x, np.float32), shape).copy() for x in (low, high)))


def check(env: Env) -> Env:
    """The environment, if its spaces and its horizon can be used.

    Raises:
        ValueError: observations or actions of size zero; bounds that are NaN, or the wrong way round; of actions
            bounds that are equal, or whose width no float32 can hold; a horizon that is no positive whole number.
    """
    where, actions = f"{env.name}: its observation space", env.action_space
    for part, space in _parts(env.obs_space).items():
        if not isinstance(space, Box):
            allowed = "a Box of rlzoo.types" + ("" if part else ", or an Observation of such")
            raise ValueError(f"{where}{part} is {_said(space)}; it must be {allowed}")
        _check_box(space, f"{where}{part}", acts=False)
    mask = mask_of(env.obs_space)
    if mask is not None and (mask.low.dtype != bool or mask.shape != (num_choices(actions),)):
        given = f"legal {mask.low.dtype}{list(mask.shape)}"
        raise ValueError(f"{where} has {given}, and the actions are {actions}; it must be a bool an action")
    where = f"{env.name}: its action space"
    if isinstance(actions, Box):
        _check_box(actions, where, acts=True)
    elif not isinstance(actions, Discrete | MultiDiscrete):
        raise ValueError(
            f"{where} is {_said(actions)}; it must be a Box or a Discrete, or MultiDiscrete, of rlzoo.types"
        )
    elif isinstance(actions, MultiDiscrete) and not (actions.n and all(_whole(n) and n >= 1 for n in actions.n)):
        raise ValueError(f"{where} is {actions!r}; it must have whole numbers of actions, 1 or more")
    elif isinstance(actions, Discrete) and (not _whole(actions.n) or actions.n < 1):
        raise ValueError(f"{where} is Discrete({actions.n!r}); it must have a whole number of actions, 1 or more")
    if not _whole(env.horizon) or not 1 <= env.horizon <= LONGEST:
        raise ValueError(
            f"{env.name}: its horizon is {env.horizon!r}; it must be a whole number of steps, 1 to {LONGEST:,}"
        )
    return env


def _parts(space: Any) -> dict[str, Any]:
    """The boxes of an observation space by what they are called; one alone has no name."""
    if not isinstance(space, Observation):
        return {"": space}
    return {f".{part}": box for part, box in space._asdict().items() if box is not None}


def _check_box(space: Box, where: str, acts: bool) -> None:
    if not all(isinstance(x, np.ndarray | jax.Array) for x in space) or space.low.shape != space.high.shape:
        raise ValueError(f"{where} is {_said(space)}; low and high must be arrays of one shape")
    if not space.low.size:
        raise ValueError(f"{where} has the shape {list(space.shape)}, and nothing in it; it must have an entry or more")
    low, high = (np.asarray(x, np.float32) for x in space)
    with np.errstate(over="ignore", invalid="ignore"):
        half = 0.5 * (high - low)  # what actions in [-1, 1] are scaled by; its logarithm is in their density
    both = np.isfinite(low) & np.isfinite(high)
    found = {
        "which are no bounds": np.isnan(low) | np.isnan(high) | (low == np.inf) | (high == -np.inf),
        "the wrong way round; low must be less than high": low > high,
    }
    if acts:
        found["the same; leave such an action out, or give it room"] = low == high
        found["closer than a float32 can tell; scale that action"] = both & (half < np.finfo(np.float32).tiny)
        found["a width that no float32 holds; use narrower bounds, or infinite ones"] = both & ~np.isfinite(half)
    for what, wrong in found.items():
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(f"{where} has low = {low[at]:g} and high = {high[at]:g} at {list(at)}, {what}")


def _whole(x: Any) -> bool:
    return isinstance(x, int | np.integer) and not isinstance(x, bool)


def _said(space: Any) -> str:
    """Its type and what tells spaces apart; the representations of others may be pages long."""
    names = ("n", "start", "nvec", "shape", "spaces") + (() if hasattr(space, "n") else ("low", "high"))
    found = (f"{name}={getattr(space, name)!r}" for name in names if getattr(space, name, None) is not None)
    return f"a {type(space).__name__}({', '.join(found)})".replace("\n", " ")[:200]
