"""RiskyTree-v0: a lot, and then a choice between a sure and a risky reward, whose best end depends on the lot.

    t = 0   any action: reward ``lot`` with probability 1/2, otherwise 0
    t = 1   action 0: reward ``safe``; action 1: ``high`` with probability ``chance``, otherwise ``low``; the end

An agent sees t alone. What it does best for the mean of the returns does not depend on the lot; for their worst share
it does, so that a policy must know what it has earned: `rlzoo.envs.stock`. The numbers are parameters and may be swept.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlzoo.envs.episodes import with_episodes
from rlzoo.types import Box, Discrete, Env


class Params(NamedTuple):  # reward units
    lot: jax.Array
    safe: jax.Array
    high: jax.Array
    low: jax.Array
    chance: jax.Array  # of the high reward


def names() -> tuple[str, ...]:
    return ("RiskyTree-v0",)


def make(name: str = "RiskyTree-v0", horizon: int = 2) -> Env:
    """Build it; its parameters are a `Params`."""
    params = Params(*(jnp.float32(number) for number in (4.0, 1.0, 3.0, -2.0, 0.7)))

    def raw_reset(key, params):
        return jnp.zeros(1), jnp.zeros(1)

    def raw_step(key, time, action, params):
        lot_key, risk_key = jax.random.split(key)
        lot = params.lot * jax.random.bernoulli(lot_key)
        risky = jnp.where(jax.random.bernoulli(risk_key, params.chance), params.high, params.low)
        chosen = jnp.where(action == 1, risky, params.safe)
        return time + 1.0, time + 1.0, jnp.where(time[0] == 0.0, lot, chosen), time[0] >= 1.0

    reset, step = with_episodes(raw_reset, raw_step, horizon)
    time = Box(np.zeros(1, np.float32), np.full(1, 2.0, np.float32))
    return Env(f"rlzoo/{name}", reset, step, params, time, Discrete(2), horizon)


def returns(params: Params, actions: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The undiscounted returns of a policy, which knows the lot, and their probabilities.

    Args:
        actions: at t = 1, where the lot was 0, and where it was not.
    """
    lot, safe, high, low, chance = (float(x) for x in params)
    ends = [[(safe, 1.0)], [(high, chance), (low, 1.0 - chance)]]
    found = [(earned + x, 0.5 * p) for earned, a in zip((0.0, lot), actions, strict=True) for x, p in ends[a]]
    values, chances = zip(*found, strict=True)
    return np.array(values), np.array(chances)


def cvar(values: np.ndarray, chances: np.ndarray, risk: float) -> float:
    """The mean of the worst ``risk`` share of a distribution."""
    order = np.argsort(values)
    mass = np.cumsum(chances[order])
    counted = np.clip(risk - (mass - chances[order]), 0.0, chances[order])
    return float(counted @ values[order] / risk)


def best(params: Params, risk: float, knows: bool = True) -> tuple[float, tuple[int, ...]]:
    """The largest CVaR of a policy that knows the lot, or does not, and its actions, by enumeration.

    CVaR is convex in the distribution, so that nothing is won by drawing between policies.
    """
    policies = [x for x in itertools.product((0, 1), repeat=2) if knows or x[0] == x[1]]
    return max((cvar(*returns(params, policy), risk), policy) for policy in policies)
