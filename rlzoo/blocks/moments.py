"""Running mean and variance, merged batch by batch (Chan et al. 1979), to normalise observations and scale rewards.

Of an `Observation` each array has its own, but for its mask of legal actions and its stock, which have none and stay as
they are.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlzoo.blocks import returns
from rlzoo.types import Observation


class Moments(NamedTuple):
    """Statistics per feature, whatever the number of environments."""

    samples: jax.Array  # f32[], how many were merged
    mean: jax.Array  # f32[*D]
    var: jax.Array  # f32[*D]


def init(shape: Any = ()) -> Any:
    """No data yet: mean 0 and variance 1, with which `normalise` is the identity."""
    if isinstance(shape, Observation):
        return Observation(*map(lambda x: None if x is None else init(x), shape))._replace(legal=None, stock=None)
    return Moments(jnp.zeros(()), jnp.zeros(shape), jnp.ones(shape))


def update(moments: Any, batch: Any) -> Any:
    """Merge a batch [..., *D]: all axes in front of the features' own are samples.

    mean = mean_a + d n_b / n,   var = (var_a n_a + var_b n_b + d^2 n_a n_b / n) / n,   d = mean_b - mean_a
    """
    if isinstance(moments, Observation):
        return Observation(*(None if m is None else update(m, x) for m, x in zip(moments, batch, strict=True)))
    axes = tuple(range(batch.ndim - moments.mean.ndim))
    batch_samples = jnp.float32(batch.size // max(moments.mean.size, 1))
    batch_mean, batch_var = jnp.mean(batch, axes), jnp.var(batch, axes)

    samples = moments.samples + batch_samples
    delta, share = batch_mean - moments.mean, batch_samples / samples
    mean = moments.mean + delta * share
    var = moments.var * (1.0 - share) + batch_var * share + delta**2 * share * (1.0 - share)
    return Moments(samples, mean, var)


def normalise(moments: Any, x: Any, limit: float = 10.0) -> Any:
    """(x - mean) / std, clipped to +-limit standard deviations."""
    if isinstance(moments, Observation):
        pairs = zip(moments, x, strict=True)
        return Observation(*(x if m is None else normalise(m, x, limit) for m, x in pairs))
    return jnp.clip((x - moments.mean) / jnp.sqrt(moments.var + 1e-8), -limit, limit)


def scale(moments: Moments, x: Float[Array, "*B"], limit: float = 10.0) -> Float[Array, "*B"]:
    """x / std, clipped to +-limit; the sign and the zero of a reward keep their meaning."""
    return jnp.clip(x / jnp.sqrt(moments.var + 1e-8), -limit, limit)


def scale_rewards(
    moments: Moments,
    running_return: Float[Array, "*N"],
    reward: Float[Array, "T *N"],
    done: Bool[Array, "T *N"],
    gamma: Float[Array, ""] | float,
) -> tuple[Float[Array, "T *N"], Moments, Float[Array, "*N"]]:
    """Rewards in units of the standard deviation of the discounted return, these rewards' own included.

    Args:
        moments: of the discounted returns so far. running_return: of the episodes so far. done: an episode's last step.
    Returns:
        scaled rewards, and moments and running returns for the next call.
    """
    running_return, discounted = returns.running_return(running_return, reward, done, gamma)
    moments = update(moments, discounted)
    return scale(moments, reward), moments, running_return


def unscale(moments: Moments, x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """x std: a value of scaled rewards, in the rewards' own units."""
    return x * jnp.sqrt(moments.var + 1e-8)
